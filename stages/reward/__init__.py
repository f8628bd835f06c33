"""The reward room: metrics of an answer, named reward sets, and rewards.parquet. No torch here."""
