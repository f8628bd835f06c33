"""Advantages and the policy's update."""
