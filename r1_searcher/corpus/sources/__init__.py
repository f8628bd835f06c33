"""The built-in corpus sources, one file each; a file is imported only if its source is chosen."""
