"""Answers judged by a language model on a chat server."""
