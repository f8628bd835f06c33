"""One policy update: rollouts and rewards in, advantages and metrics out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import grammar, schemas
from stages.contract.errors import PipelineError
from stages.contract.params import Update
from stages.contract.protocols import Trainer, TrainingBatch
from stages.update.advantages import Advantages, Floats, compute_advantages

if TYPE_CHECKING:
    from collections.abc import Sequence


def update_policy(
    trainer: Trainer, rollouts: pa.Table, rewards: pa.Table, update: Update
) -> tuple[pa.Table, dict[str, float]]:
    """Train on one iteration's rollouts (``ROLLOUTS``) and rewards (``REWARDS``), aligned by trajectory_id.

    Returns the ``ADVANTAGES`` table, a row a trajectory that was trained on, in the rollouts' order, and the
    metrics: the trainer's (means over policy tokens), and counts of trajectories, groups and groups whose
    rewards are all equal. Trajectories that do not count, or without policy tokens, are left out.

    Raises ``PipelineError`` where the two tables differ in their trajectories, a row contradicts itself,
    or nothing is left to train on.
    """
    chosen, totals = _select(rollouts, rewards)
    batch = _tokens(chosen)
    groups: list[str] = chosen["question_id"].to_pylist()
    num_tokens = [len(row) for row in batch.old_logprobs]
    reference: list[list[float]] = [[] for _ in groups]
    divergence: list[Floats] | None = None
    metrics: dict[str, float] = {}
    if update.kl_coefficient > 0:
        reference = trainer.reference_logprobs(batch.token_ids, batch.policy_mask)
        divergence = [np.asarray(old) - np.asarray(ref) for old, ref in zip(batch.old_logprobs, reference, strict=True)]
        tokens = np.concatenate(divergence)
        metrics["kl_reference_k1"] = float(tokens.mean())
        metrics["kl_reference_k3"] = float((np.expm1(-tokens) + tokens).mean())
    advantages = compute_advantages(
        totals, groups, num_tokens, update.estimator, kl=divergence, kl_coefficient=update.kl_coefficient
    )
    batch.advantages.extend(values.tolist() for values in advantages.values)
    metrics |= trainer.update(batch)
    metrics |= {
        "num_trajectories": float(len(groups)),
        "num_left_out": float(rollouts.num_rows - len(groups)),
        "num_groups": float(advantages.num_groups),
        "num_zero_advantage_groups": float(advantages.num_flat_groups),
    }
    return _advantages_table(batch.trajectory_ids, advantages, reference), metrics


def _select(rollouts: pa.Table, rewards: pa.Table) -> tuple[pa.Table, list[float]]:
    """The rollouts that are trained on, with their rewards (B,)."""
    ids: list[str] = rollouts["trajectory_id"].to_pylist()
    rows = {name: row for row, name in enumerate(rewards["trajectory_id"].to_pylist())}
    if len(set(ids)) != len(ids) or len(rows) != rewards.num_rows:
        raise PipelineError("a trajectory_id occurs twice", where="rollouts and rewards", fix="make both anew")
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


def _tokens(rollouts: pa.Table) -> TrainingBatch:
    """Tokens, masks and the engine's log-probabilities; the advantages are yet to come."""
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
            raise PipelineError(f"trajectory {name!r}: {fault}", where="rollouts", fix="make the rollouts anew")
    return batch


def _fault(ids: Sequence[int], mask: Sequence[bool], logprobs: Sequence[float]) -> str | None:
    """What is wrong with a trajectory's row, None where nothing is."""
    if len(ids) != len(mask):
        return f"{len(ids)} token_ids but {len(mask)} token_source"
    if sum(mask) != len(logprobs):
        return f"{sum(mask)} policy tokens but {len(logprobs)} policy_logprobs"
    if mask[0]:
        return "begins with a policy token: there is no prompt"
    if not np.isfinite(logprobs).all():
        return "a policy_logprob is not finite"
    return None


def _advantages_table(ids: list[str], advantages: Advantages, reference: list[list[float]]) -> pa.Table:
    columns = {
        "trajectory_id": ids,
        "advantages": advantages.values,
        "returns": advantages.returns,
        "ref_logprobs": reference,
    }
    return pa.table({name: pa.array(column, schemas.ADVANTAGES.field(name).type) for name, column in columns.items()})
