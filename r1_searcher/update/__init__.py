"""Update: advantages from rewards, and the policy's PPO step. ``load_trainer`` imports torch and DeepSpeed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r1_searcher.errors import PipelineError
from r1_searcher.points import TRAINERS
from r1_searcher.types.protocols import Trainer

if TYPE_CHECKING:  # a trainer alone needs no tables
    import pyarrow as pa

    from r1_searcher.params import Params, Update

__all__ = ["load_trainer", "update_policy"]

_NEEDED = sorted({*Trainer.__annotations__, *(name for name in vars(Trainer) if not name.startswith("_"))})


def load_trainer(
    policy: Path,
    params: Params,
    *,
    learning_rate: float,
    warmup_iterations: int = 0,
    reference: Path | None = None,
    reference_apart: bool = False,
) -> Trainer:
    """Return the trainer that ``update.trainer`` names, started from a policy folder.

    Args:
        policy: Hugging Face folder with a tokenizer.
        params: uses ``update``, ``rollout.temperature``, ``seed`` and ``threads``.
        learning_rate, warmup_iterations: the stage's, in ``params.train``.
        reference: policy folder of the KL anchor if ``update.kl_coefficient`` > 0; None: ``policy``.
            A resumed run names the policy that the segment started from.
        reference_apart: another process holds it and passes its log-probabilities to ``update_policy``.

    Raises ``PipelineError`` if the registered object is no ``Trainer``.
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
    lacking = [name for name in _NEEDED if not hasattr(trainer, name)]
    if lacking:
        raise PipelineError(
            f"the trainer {params.update.trainer!r} is a {type(trainer).__name__}, which has no {', '.join(lacking)}",
            where=params.update.found("trainer").place(),
            fix="r1_searcher/types/protocols.py lists the methods of a Trainer",
        )
    return trainer


def update_policy(
    trainer: Trainer,
    rollouts: pa.Table,
    rewards: pa.Table,
    update: Update,
    reference_logprobs: Mapping[str, Sequence[float]] | None = None,
) -> tuple[pa.Table, dict[str, float]]:
    """Train on one iteration; return its ``ADVANTAGES`` and metrics; see ``r1_searcher.update.step.update_policy``."""
    from r1_searcher.update.step import update_policy

    return update_policy(trainer, rollouts, rewards, update, reference_logprobs)
