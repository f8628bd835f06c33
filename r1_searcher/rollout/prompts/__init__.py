"""Prompts by name: NAME.txt, or a file that registers one."""
