"""Corpora: a synthetic world, or the user's own passages."""
