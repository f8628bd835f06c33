"""Answer metrics and named reward sets. No torch here."""
