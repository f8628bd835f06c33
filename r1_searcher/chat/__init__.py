"""Models on OpenAI-compatible chat servers."""
