"""What every room may import: parameters, schemas, grammar, artefacts, errors, protocols. No torch here."""
