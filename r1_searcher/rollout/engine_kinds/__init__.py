"""Engines by name (``rollout.engine``), one file each; an engine's library is imported only when it is loaded."""
