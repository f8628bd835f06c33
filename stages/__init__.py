"""WHAT is done: one room a stage, each runnable as ``python -m stages.<room>``."""
