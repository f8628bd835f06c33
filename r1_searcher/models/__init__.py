"""The policy before reinforcement learning: a tiny Qwen2 trained from scratch, or a model of the user's."""
