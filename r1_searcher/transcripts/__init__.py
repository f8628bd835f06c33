"""The grammar of a transcript, and how found documents are put into one."""
