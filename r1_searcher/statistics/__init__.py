"""Intervals, and verdicts on two evaluated policies."""
