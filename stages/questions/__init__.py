"""Questions: composed from a synthetic world, or the user's own."""
