"""The trainer on torch alone: one process, for machines without DeepSpeed."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import trainer
from r1_searcher.params import Update
from r1_searcher.types.protocols import Trainer


@trainer("torch")
def torch(
    policy: Path,
    update: Update,
    *,
    learning_rate: float,
    warmup_iterations: int,
    temperature: float,
    seed: int,
    threads: int,
    reference: Path | None,
    reference_apart: bool,
) -> Trainer:
    """See ``TorchTrainer``; the arguments are those of ``r1_searcher.update.load_trainer``."""
    from r1_searcher.update.trainers import TorchTrainer

    return TorchTrainer(
        policy,
        update,
        learning_rate=learning_rate,
        warmup_iterations=warmup_iterations,
        temperature=temperature,
        seed=seed,
        threads=threads,
        reference=reference,
        reference_apart=reference_apart,
    )
