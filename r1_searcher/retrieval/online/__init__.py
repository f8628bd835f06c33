"""Online search behind the ``Retriever`` protocol: a search engine's API, and the pages that it lists."""
