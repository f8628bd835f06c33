"""Engines by name (``rollout.engine``): a file each, which loads its library when it is called."""
