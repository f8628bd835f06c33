"""The shipped tools, one file each."""
