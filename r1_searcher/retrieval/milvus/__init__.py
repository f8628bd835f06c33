"""Vectors in Milvus: embedded in a folder (Milvus Lite), or on a server or cluster, through one client (pymilvus)."""
