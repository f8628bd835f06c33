"""The search engine: BM25 over the passages, built once, opened memory-mapped."""

from stages.index.bm25 import Bm25Retriever, build_index, open_index

__all__ = ["Bm25Retriever", "build_index", "open_index"]
