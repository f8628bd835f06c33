"""Rollouts in the forms of verl and TRL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError

_COLUMNS = ("trajectory_id", "question_id", "sample", "question", "answers", "prompt", "text", "finish_reason")
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def rewards_of(rollouts: pa.Table, rewards: pa.Table | None) -> list[float] | None:
    """Return each trajectory's reward, in the rollouts' order; None without rewards.

    Raises ``PipelineError`` for a trajectory without one.
    """
    if rewards is None:
        return None
    totals: Mapping[str, float] = dict(
        zip(rewards["trajectory_id"].to_pylist(), rewards["total"].to_pylist(), strict=True)
    )
    wanted = rollouts["trajectory_id"].to_pylist()
    if absent := [one for one in wanted if one not in totals]:
        raise PipelineError(
            f"no reward for {len(absent):,} of {len(wanted):,} trajectories, such as {absent[0]}",
            where="--rewards",
            fix="name the rewards of these rollouts",
        )
    return [totals[one] for one in wanted]


def to_verl(rollouts: pa.Table, rewards: pa.Table | None, step: int) -> Iterator[dict[str, Any]]:
    """Yield rows as verl dumps its rollouts (``trainer.rollout_data_dir``): input, output, gts, score, step.

    ``score`` is None without rewards.
    """
    scores = rewards_of(rollouts, rewards)
    for number, row in enumerate(rollouts.select(_COLUMNS).to_pylist()):
        yield {
            "input": row["prompt"],
            "output": row["text"],
            "gts": row["answers"],
            "score": None if scores is None else scores[number],
            "step": step,
            "question": row["question"],
            "trajectory_id": row["trajectory_id"],
            "finish_reason": row["finish_reason"],
        }


def to_trl(rollouts: pa.Table, rewards: pa.Table | None, *, conversational: bool) -> pa.Table:
    """Return TRL's prompts and completions: texts, or messages if ``conversational``; ``reward`` if there are rewards;
    N rows, in order."""
    prompts, texts = rollouts["prompt"].to_pylist(), rollouts["text"].to_pylist()
    if conversational:
        columns = {
            "prompt": pa.array([[{"role": "user", "content": text}] for text in prompts], _MESSAGES),
            "completion": pa.array([[{"role": "assistant", "content": text}] for text in texts], _MESSAGES),
        }
    else:
        columns = {"prompt": pa.array(prompts, pa.string()), "completion": pa.array(texts, pa.string())}
    scores = rewards_of(rollouts, rewards)
    if scores is not None:
        columns["reward"] = pa.array(scores, pa.float64())
    others = [name for name in _COLUMNS if name not in ("prompt", "text")]
    return pa.table(columns | {name: rollouts[name].combine_chunks() for name in others})
