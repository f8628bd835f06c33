"""Update: advantages from rewards, and the policy's PPO step. ``load_trainer`` imports torch and DeepSpeed."""
