"""Update: advantages from rewards, and the policy's PPO step. torch and DeepSpeed are loaded by ``load_trainer``."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.params import Params
from r1_searcher.points import TRAINERS
from r1_searcher.types.protocols import Trainer
from r1_searcher.update.step import update_policy

__all__ = ["load_trainer", "update_policy"]


def load_trainer(
    policy: Path,
    params: Params,
    *,
    learning_rate: float,
    warmup_iterations: int = 0,
    reference: Path | None = None,
    reference_apart: bool = False,
) -> Trainer:
    """The trainer that ``update.trainer`` names, which starts from a policy folder.

    Args:
        policy: Hugging Face folder with a tokenizer.
        params: ``update``, ``rollout.temperature``, ``seed`` and ``threads`` are used.
        learning_rate, warmup_iterations: the stage's, in ``params.train``.
        reference: policy folder of the KL anchor where ``update.kl_coefficient`` > 0; None: ``policy``.
            A run that resumes names the policy that the segment began with.
        reference_apart: another process has it, and ``update_policy`` is given what it found.
    """
    trainer: Trainer = params.update.chosen(TRAINERS)(
        policy,
        params.update,
        learning_rate=learning_rate,
        warmup_iterations=warmup_iterations,
        temperature=params.rollout.temperature,
        seed=params.seed,
        threads=params.threads,
        reference=reference,
        reference_apart=reference_apart,
    )
    return trainer
