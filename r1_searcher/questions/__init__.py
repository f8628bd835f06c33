"""What is asked: questions composed from a synthetic world, or the user's own."""
