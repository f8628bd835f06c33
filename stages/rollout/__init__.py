"""Rollout: sample trajectories from questions. Holds the engines and the loop that is the policy's environment."""
