"""Greedy evaluation of a policy on the benchmarks, and the one summary of all policies.

``run`` answers every benchmark's questions with one policy and writes a row per question, with a protocol card in the
file's metadata. ``gather`` turns the files of several policies into ``metrics/evaluation.json`` and refuses to compare
figures measured under different protocols.
"""
