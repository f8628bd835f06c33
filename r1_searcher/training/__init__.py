"""What an iteration of training is made of: its questions, its keys, its figures, its files. No Prefect here."""
