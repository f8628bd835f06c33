"""A retriever behind a retrieval service."""
