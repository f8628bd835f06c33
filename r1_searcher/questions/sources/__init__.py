"""The built-in question sources, one file each; a file is imported only if its source is chosen."""
