"""Hand a trained policy on: a folder with a model card, a GGUF file, a repository on a hub."""
