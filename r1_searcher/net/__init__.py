"""Addresses, and server responses within limits."""
