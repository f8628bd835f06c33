"""Retrieval: BM25, vectors or both over the passages, opened memory-mapped; or a web search engine."""
