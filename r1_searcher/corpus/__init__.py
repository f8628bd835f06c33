"""What can be searched: a synthetic world, or passages of the user's own."""
