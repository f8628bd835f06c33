"""Ask a policy: its transcript as it is written, its answer, and the passages that contain the answer."""
