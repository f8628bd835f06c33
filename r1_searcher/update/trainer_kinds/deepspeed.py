"""The trainer on DeepSpeed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.extend import trainer
from r1_searcher.params import Update
from r1_searcher.types.protocols import Trainer


@trainer("deepspeed")
def deepspeed(
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
    """See ``DeepSpeedTrainer``; the arguments are those of ``r1_searcher.update.load_trainer``."""
    if find_spec("deepspeed") is None:
        raise PipelineError(
            "deepspeed is not installed",
            where="update.trainer",
            fix="pip install deepspeed; or update.trainer: torch, which makes the same update on one process",
        )
    from r1_searcher.update.trainers import DeepSpeedTrainer

    return DeepSpeedTrainer(
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
