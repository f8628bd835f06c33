"""Metrics of an answer and named reward sets. No torch here."""
