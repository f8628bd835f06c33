"""Reading and writing: artefacts written whole, checksums, the store, Parquet, records in JSON and CSV."""
