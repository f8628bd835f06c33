"""What the parts hand to each other: protocols, column schemas, splits. No torch here."""
