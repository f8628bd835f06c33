"""Judge answers with a language model on a chat server."""
