"""A policy on its way from the trainer to engines in other processes: its folder, in the store until the next one.

Weights alone, without the optimizer's state: a checkpoint is not made for this.
"""

from __future__ import annotations

from pathlib import Path

from stages.contract.store import Store
from stages.train.workers import Trainers

KIND = "weights"  # in the store


def find(store: Store, key: str) -> Path | None:
    """The folder of the policy ``key``, or None."""
    place = store.get(KIND, key)
    return None if place is None else place / "policy"


def write(store: Store, key: str, trainer: Trainers, *, step: int, parent: str) -> None:
    """Write the trainer's present policy under ``key``."""
    with store.put(KIND, key) as draft:
        trainer.save_policy(draft / "policy", step=step, parent=parent)
