"""The question sources that ship, one file each; a file is imported only if its source is chosen."""
