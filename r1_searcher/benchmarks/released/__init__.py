"""The known released benchmarks, one file per publisher; a file is imported only if one of its benchmarks is used."""
