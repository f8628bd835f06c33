"""The reward room: answer metrics, named reward sets, and rewards.parquet. No torch here."""
