"""The grammar of a transcript, and how documents are inserted into one."""
