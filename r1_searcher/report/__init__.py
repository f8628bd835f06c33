"""The HTML page of a run: headline figures, curves, evaluation, trajectories, protocol, sources."""
