"""From rollouts to rewards: one row a trajectory, scalars only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from r1_searcher.errors import PipelineError
from r1_searcher.params import Reward
from r1_searcher.rewards import metrics
from r1_searcher.rewards.sets import rules_of, score
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Segment, Transcript
from r1_searcher.types.schemas import REWARDS


def reward_table(rollouts: pa.Table, reward: Reward, stage: int) -> pa.Table:
    """Rewards (schema ``REWARDS``) of rollouts (schema ``ROLLOUTS``), row for row in the same order.

    ``stage`` is the recipe's stage, 1 or 2. A trajectory that the retriever failed has
    ``counted`` false: training leaves it out. Raises ``PipelineError`` for a reward set without
    this stage and for a trajectory without a gold answer.
    """
    rules_of(reward.set, stage)  # a missing stage shows even where there are no rollouts
    small = rollouts.select(["trajectory_id", "question_id", "answers", "turns", "segments", "finish_reason"])
    rows = [
        reward_row(row, reward, stage) | _token_counts(sources.values)
        for row, sources in zip(small.to_pylist(), rollouts["token_source"], strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=REWARDS)


def reward_row(row: Mapping[str, Any], reward: Reward, stage: int) -> dict[str, Any]:
    """The row of the rewards, but for the token counts, of one row of the rollouts."""
    if not row["answers"]:
        raise PipelineError("the trajectory has no gold answer", where=f"rollouts, {row['trajectory_id']}")
    transcript = Transcript.of(Segment(part["source"], part["text"]) for part in row["segments"])
    errors = [turn["error"] for turn in row["turns"]]
    num_searches = errors.count(None)  # a search that failed was not carried out
    scored = score(transcript, row["answers"], reward.set, stage, reward.answer_metric, num_searches=num_searches)
    prediction = grammar.extract_answer(transcript.policy_text)
    return {
        "trajectory_id": row["trajectory_id"],
        "question_id": row["question_id"],
        "total": scored.total,
        "retrieval": scored.components.retrieval,
        "format": scored.components.format,
        "answer": scored.components.answer,
        "violations": list(scored.violations),
        "format_right": not grammar.format_violations(transcript),
        "em": metrics.em(prediction, row["answers"]),
        "f1": metrics.f1(prediction, row["answers"]),
        "cover_em": metrics.cover_em(prediction, row["answers"]),
        "num_searches": num_searches,
        "counted": row["finish_reason"] != grammar.FINISH_RETRIEVER_ERROR and num_searches == len(errors),
    }


def _token_counts(sources: pa.Array) -> dict[str, int]:
    """Counted in Arrow: the lists are long, and nothing else of them is needed."""
    num_policy_tokens = pc.sum(pc.equal(sources, grammar.POLICY), min_count=0).as_py()
    return {"num_policy_tokens": num_policy_tokens, "num_tokens": len(sources)}
