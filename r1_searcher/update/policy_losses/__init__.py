"""Policy losses by name (``update.loss``), one file each."""
