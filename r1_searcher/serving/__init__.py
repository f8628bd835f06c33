"""Serve a policy that searches: an OpenAI-compatible endpoint with a chat page, and an MCP server."""
