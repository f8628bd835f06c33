"""Tools that a policy may call while it reasons. Search is the first of them."""
