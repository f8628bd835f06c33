"""The released benchmarks that are known, by who published them; a file is imported only if one of its is used."""
