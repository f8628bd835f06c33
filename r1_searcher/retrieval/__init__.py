"""Retrieval: BM25, vectors or both over the passages, opened memory-mapped; or a web search engine."""

from r1_searcher.retrieval.bm25 import Bm25Retriever, open_index
from r1_searcher.retrieval.build import build_index
from r1_searcher.retrieval.retrievers import identify, open_retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind

__all__ = ["Bm25Retriever", "Identity", "RetrieverKind", "build_index", "identify", "open_index", "open_retriever"]
