"""Search as a service: any retriever behind HTTP, and the retriever that calls it."""
