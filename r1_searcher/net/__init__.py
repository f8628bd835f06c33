"""Addresses, and replies of servers within limits."""
