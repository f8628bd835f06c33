"""Released benchmarks, fetched by checksum."""
