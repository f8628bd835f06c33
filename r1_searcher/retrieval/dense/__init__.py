"""Dense retrieval: an embedding model (sentence-transformers), vectors (faiss), and the retriever over them."""
