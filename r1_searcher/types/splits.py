"""Which splits of the questions are for training, which are watched, and which are benchmarks, by name."""

from __future__ import annotations

TRAIN = "train"
VALIDATION = "validation"


def is_training(split: str) -> bool:
    """Whether a split is asked in training: ``train``, or a further training set named ``train_…``."""
    return split == TRAIN or split.startswith(f"{TRAIN}_")


def is_benchmark(split: str) -> bool:
    """Whether a split is evaluated on."""
    return split != VALIDATION and not is_training(split)
