"""Greedy evaluation of a policy on the benchmarks, and the one summary of all policies."""
