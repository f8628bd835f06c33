"""Questions and rollouts in the forms of other programs: a Hugging Face dataset, verl's files, TRL's datasets."""
