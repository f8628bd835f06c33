"""One policy update: from rollouts and rewards to advantages and metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from r1_searcher.errors import PipelineError
from r1_searcher.params import Update
from r1_searcher.points import ESTIMATORS
from r1_searcher.transcripts import grammar
from r1_searcher.types import schemas
from r1_searcher.types.arrays import Floats
from r1_searcher.types.protocols import Trainer, TrainingBatch
from r1_searcher.update.advantages import compute_advantages, in_flat_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def update_policy(
    trainer: Trainer,
    rollouts: pa.Table,
    rewards: pa.Table,
    update: Update,
    reference_logprobs: Mapping[str, Sequence[float]] | None = None,
) -> tuple[pa.Table, dict[str, float]]:
    """Train on one iteration's rollouts (``ROLLOUTS``) and rewards (``REWARDS``), aligned by trajectory_id.

    Returns the ``ADVANTAGES`` table, one row per trajectory trained on, in the rollouts' order, and the metrics: the
    trainer's (means over policy tokens), and counts of trajectories, groups and zero-advantage groups. Trajectories
    that do not count, or have no policy tokens, are left out. With ``update.overlong: left_out``, a trajectory
    truncated at the token limit counts in its group's comparison and nowhere else (``num_overlong``). With
    ``update.flat_groups: dropped``, trajectories of zero-advantage groups have advantage 0, no part in the whitening
    and no pass, but count in the loss's mean (``num_dropped_trajectories``).

    ``reference_logprobs``: trajectory_id → (P_b,) from the KL anchor, if already scored; None: the trainer scores them
    if the coefficient is above 0.

    Raises ``PipelineError`` if the two tables differ in their trajectories, a row is inconsistent, or nothing is left
    to train on.
    """
    chosen, totals = _select(rollouts, rewards)
    groups: list[str] = chosen["question_id"].to_pylist()
    flat = in_flat_groups(totals, groups) if update.flat_groups == "dropped" else [False] * len(groups)
    reasons: list[str] = chosen["finish_reason"].to_pylist()
    overlong = [update.overlong == "left_out" and reason == grammar.FINISH_LENGTH_LIMIT for reason in reasons]
    if all(overlong):
        raise PipelineError(
            f"all {len(overlong)} trajectories ended at rollout.max_total_tokens, and are left out",
            where="update.overlong",
            fix="raise rollout.max_total_tokens, or keep them (update.overlong: kept)",
        )
    trained = [not (one or other) for one, other in zip(flat, overlong, strict=True)]
    whole = _training_batch(chosen)
    metrics: dict[str, float] = {}
    divergence = reference = None
    if update.kl_coefficient > 0:
        reference, divergence = _divergence(trainer, whole, trained, metrics, reference_logprobs)
    advantages = compute_advantages(
        totals,
        groups,
        [len(row) for row in whole.old_logprobs],
        update.chosen(ESTIMATORS),
        kl=divergence,
        kl_coefficient=update.kl_coefficient,
        trained=trained,
    )
    rows = [row for row in range(len(groups)) if not overlong[row]]
    dropped = frozenset(place for place, row in enumerate(rows) if flat[row])
    batch = _some_trajectories(whole, rows, [advantages.values[row].tolist() for row in rows], dropped)
    metrics |= trainer.update(batch)
    metrics |= {
        "num_trajectories": float(len(rows)),
        "num_left_out": float(rollouts.num_rows - len(rows)),
        "num_groups": float(advantages.num_groups),
        "num_zero_advantage_groups": float(advantages.num_flat_groups),
    }
    if update.flat_groups == "dropped":
        metrics["num_dropped_trajectories"] = float(len(dropped))
    if update.overlong == "left_out":
        metrics["num_overlong"] = float(sum(overlong))
    columns = {
        "trajectory_id": batch.trajectory_ids,
        "advantages": batch.advantages,
        "returns": [advantages.returns[row] for row in rows],
        "ref_logprobs": [[] if reference is None else reference[row] for row in rows],
    }
    table = {name: pa.array(column, schemas.ADVANTAGES.field(name).type) for name, column in columns.items()}
    return pa.table(table), metrics


def _divergence(
    trainer: Trainer,
    batch: TrainingBatch,
    trained: Sequence[bool],
    metrics: dict[str, float],
    known: Mapping[str, Sequence[float]] | None,
) -> tuple[list[list[float]], list[Floats]]:
    """Return the reference policy's log-probabilities and log pi_old - log pi_ref, (P_b,) per trajectory.

    Trajectories that are not trained on get an empty list and zeros. Adds the means to ``metrics``. ``known``: see
    ``update_policy``.
    """
    rows = [row for row, counts in enumerate(trained) if counts]
    some = _some_trajectories(batch, rows, [], frozenset())
    if known is not None:
        found = [list(known[name]) for name in some.trajectory_ids]
    else:
        found = trainer.reference_logprobs(some.token_ids, some.policy_mask) if rows else []
    reference: list[list[float]] = [[] for _ in trained]
    divergence: list[Floats] = [np.zeros(len(old)) for old in batch.old_logprobs]
    for row, logprobs in zip(rows, found, strict=True):
        reference[row] = logprobs
        divergence[row] = np.asarray(batch.old_logprobs[row]) - np.asarray(logprobs)
    if rows:
        tokens = np.concatenate([divergence[row] for row in rows])
        metrics["kl_reference_k1"] = float(tokens.mean())
        metrics["kl_reference_k3"] = float((np.expm1(-tokens) + tokens).mean())
    return reference, divergence


def _some_trajectories(
    batch: TrainingBatch, rows: Sequence[int], advantages: list[list[float]], dropped: frozenset[int]
) -> TrainingBatch:
    """Return some of a batch's trajectories, with their advantages."""
    return TrainingBatch(
        token_ids=[batch.token_ids[row] for row in rows],
        policy_mask=[batch.policy_mask[row] for row in rows],
        advantages=advantages,
        old_logprobs=[batch.old_logprobs[row] for row in rows],
        trajectory_ids=[batch.trajectory_ids[row] for row in rows],
        dropped=dropped,
    )


def _select(rollouts: pa.Table, rewards: pa.Table) -> tuple[pa.Table, list[float]]:
    """Return the rollouts to train on, with their rewards (B,)."""
    ids: list[str] = rollouts["trajectory_id"].to_pylist()
    rows = {name: row for row, name in enumerate(rewards["trajectory_id"].to_pylist())}
    if len(set(ids)) != len(ids) or len(rows) != rewards.num_rows:
        raise PipelineError("a trajectory_id occurs twice", where="rollouts and rewards", fix="make both again")
    odd = sorted(set(ids) ^ set(rows))
    if odd:
        here = "rewards" if odd[0] in rows else "rollouts"
        raise PipelineError(
            f"trajectory {odd[0]!r} is only in the {here} ({len(odd)} differ)",
            where="rollouts and rewards",
            fix="score these rollouts again: python -m stages.reward",
        )
    rewards = rewards.take([rows[name] for name in ids])
    totals: list[float] = rewards["total"].to_pylist()
    counted: list[bool] = rewards["counted"].to_pylist()
    lengths: list[int] = pc.list_value_length(rollouts["policy_logprobs"]).to_pylist()
    keep = [row for row in range(len(ids)) if counted[row] and lengths[row]]
    if not keep:
        raise PipelineError(
            f"none of the {len(ids)} trajectories can be trained on",
            where="rollouts and rewards",
            fix="look at their finish_reason: retriever errors do not count",
        )
    broken = next((row for row in keep if totals[row] is None or not math.isfinite(totals[row])), None)
    if broken is not None:
        raise PipelineError(f"the reward of trajectory {ids[broken]!r} is {totals[broken]}", where="rewards")
    return rollouts.take(keep), [totals[row] for row in keep]


def _training_batch(rollouts: pa.Table) -> TrainingBatch:
    """Return tokens, masks and the engine's log-probabilities, without advantages yet."""
    batch = TrainingBatch(
        token_ids=rollouts["token_ids"].to_pylist(),
        policy_mask=[[source == grammar.POLICY for source in row] for row in rollouts["token_source"].to_pylist()],
        advantages=[],
        old_logprobs=rollouts["policy_logprobs"].to_pylist(),
        trajectory_ids=rollouts["trajectory_id"].to_pylist(),
    )
    for name, ids, mask, logprobs in zip(
        batch.trajectory_ids, batch.token_ids, batch.policy_mask, batch.old_logprobs, strict=True
    ):
        fault = _fault(ids, mask, logprobs)
        if fault:
            raise PipelineError(f"trajectory {name!r}: {fault}", where="rollouts", fix="make the rollouts again")
    return batch


def _fault(ids: Sequence[int], mask: Sequence[bool], logprobs: Sequence[float]) -> str | None:
    """Return what is wrong with a trajectory's row, or None."""
    if len(ids) != len(mask):
        return f"{len(ids)} token_ids but {len(mask)} token_source"
    if sum(mask) != len(logprobs):
        return f"{sum(mask)} policy tokens but {len(logprobs)} policy_logprobs"
    if mask[0]:
        return "begins with a policy token: there is no prompt"
    if not np.isfinite(logprobs).all():
        return "a policy_logprob is not finite"
    return None
