"""What the parts exchange: protocols, column schemas, splits. No torch here."""
