"""The parts of a training iteration: its questions, keys, figures and files. No Prefect here."""
