"""Trainers by name (``update.trainer``): a file each, which loads its library when it is called."""
