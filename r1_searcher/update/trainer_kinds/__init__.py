"""Trainers by name (``update.trainer``), one file each; a trainer's library is imported only when it is loaded."""
