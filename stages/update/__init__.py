"""Update: advantages from rewards, and the policy's PPO step. torch and DeepSpeed are loaded by ``load_trainer``."""
