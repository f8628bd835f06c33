"""Corpus, retriever, transcript grammar and rewards as an environment of other trainers.

``core`` needs none of them; the modules named ``for_…`` adapt it to TRL, verifiers and OpenEnv (the extra trainers).
"""
