"""Released benchmarks: fetched by checksum, with their questions and, if they have paragraphs, a corpus of their
own."""
