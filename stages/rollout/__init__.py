"""Rollout: questions in, trajectories out. The engines and the loop that is the policy's environment."""
