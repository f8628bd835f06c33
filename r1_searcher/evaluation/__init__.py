"""Greedy evaluation of policies on the benchmarks, and one summary of all policies."""
