"""Trajectories: the policy thinks, searches and answers."""
