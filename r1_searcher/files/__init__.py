"""Reading and writing: whole artefacts, checksums, the store, Parquet, records in JSON and CSV."""
