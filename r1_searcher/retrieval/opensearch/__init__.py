"""BM25 on an OpenSearch or Elasticsearch cluster, over the words that the local index would have."""
