"""The policy before reinforcement learning: a tiny Qwen2 trained from scratch, or the user's model."""
