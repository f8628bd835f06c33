"""Which splits of the questions are for training, validation and benchmarks, by name."""

from __future__ import annotations

TRAIN = "train"
VALIDATION = "validation"


def is_training(split: str) -> bool:
    """Return whether a split is for training: ``train``, or a further training set named ``train_…``."""
    return split == TRAIN or split.startswith(f"{TRAIN}_")


def is_benchmark(split: str) -> bool:
    """Return whether a split is a benchmark."""
    return split != VALIDATION and not is_training(split)
