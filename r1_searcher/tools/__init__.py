"""Tools: what a policy may call while it reasons. Search is the first of them."""
