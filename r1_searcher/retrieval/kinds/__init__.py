"""The kinds of retrievers that ship, one file each; a file is imported only if its kind is chosen."""
