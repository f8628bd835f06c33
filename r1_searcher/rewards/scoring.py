"""From rollouts to rewards: one row per trajectory, scalars only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from r1_searcher.errors import PipelineError
from r1_searcher.params import Reward
from r1_searcher.rewards import metrics
from r1_searcher.rewards.case import Score
from r1_searcher.rewards.columns import CALLS, FAILED, PREFIX, schema_of
from r1_searcher.rewards.rules import COMPONENTS, Rules, check_same_components, rules_from
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Segment, Tags, Transcript
from r1_searcher.transcripts.scripts import Scripts
from r1_searcher.types.schemas import TOOLS_FIELD

_READ = ("trajectory_id", "question_id", "question", "answers", "turns", "segments", "finish_reason")

_SEARCH = "search"
SEARCHES = (None, _SEARCH)  # a turn's tool; rollouts from before there were several name none


def reward_table(rollouts: pa.Table, reward: Reward, stage: int | None) -> pa.Table:
    """Return rewards (schema ``REWARDS``; paper section 3.3) of N rollouts (schema ``ROLLOUTS``), row by row.

    Further components of the set follow the schema as columns ``component_NAME``. If the policy could call tools beside
    search (column ``TOOLS_FIELD``), ``calls_NAME`` counts the successful calls of each of them, and ``failed_NAME`` the
    failed ones of each tool, search included. ``stage``: the recipe's, 1 or 2; None: the set's last one, for callers
    that only need the metrics. A trajectory lost to the retriever or a tool has ``counted`` false: training leaves it
    out. Raises ``PipelineError`` if the set lacks this stage, a trajectory has no gold answer, or its components differ
    from earlier ones.
    """
    rules = rules_from(reward)
    stage = rules.stages[-1] if stage is None else stage
    rules.check_stage(stage)  # reported even without rollouts
    rows: list[dict[str, Any]] = []
    first: Score | None = None
    read = [*_READ, TOOLS_FIELD.name] if TOOLS_FIELD.name in rollouts.column_names else [*_READ]
    for row, sources in zip(rollouts.select(read).to_pylist(), rollouts["token_source"], strict=True):
        scored = _scored(row, rules, stage)
        first = first or scored
        check_same_components(rules, first, scored, _place(row))
        rows.append(_columns(row, scored, rules.scripts) | _token_counts(sources.values))
    return pa.Table.from_pylist(rows, schema=schema_of(rows[0] if rows else ()))


def _place(row: Mapping[str, Any]) -> str:
    return f"trajectory {row['trajectory_id']}"


def _scored(row: Mapping[str, Any], rules: Rules, stage: int) -> Score:
    """Return the score of one row of the rollouts."""
    if not row["answers"]:
        raise PipelineError("the trajectory has no gold answer", where=f"rollouts, {row['trajectory_id']}")
    return rules.score(
        _transcript(row),
        row["answers"],
        stage,
        num_searches=_num_searches(row),
        question=row["question"],
        calls=_calls(row),
        row=_place(row),
    )


def _columns(row: Mapping[str, Any], scored: Score, scripts: Scripts) -> dict[str, Any]:
    """Return the rewards' row, without token counts, for one row of the rollouts."""
    transcript, num_searches = replace(_transcript(row), scripts=scripts), _num_searches(row)
    prediction = grammar.extract_answer(transcript.policy_text)
    return {
        "trajectory_id": row["trajectory_id"],
        "question_id": row["question_id"],
        "total": scored.total,
        "violations": list(scored.violations),
        "format_right": not grammar.format_violations(transcript),
        "em": metrics.em(prediction, row["answers"]),
        "f1": metrics.f1(prediction, row["answers"]),
        "cover_em": metrics.cover_em(prediction, row["answers"]),
        "num_searches": num_searches,
        "counted": row["finish_reason"] not in grammar.LOST_FINISHES and len(_carried_out(row)) == len(row["turns"]),
        **{name if name in COMPONENTS else PREFIX + name: value for name, value in scored.components.items()},
        **{CALLS + name: number for name, number in _calls(row).items()},
        **{FAILED + name: number for name, number in _failed(row).items()},
    }


def _transcript(row: Mapping[str, Any]) -> Transcript:
    return Transcript.of((Segment(part["source"], part["text"]) for part in row["segments"]), _tools(row))


def _tools(row: Mapping[str, Any]) -> list[Tags]:
    """Return the tools beside search that the policy could call."""
    return [Tags(**one) for one in row.get(TOOLS_FIELD.name) or ()]


def _carried_out(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [turn for turn in row["turns"] if turn["error"] is None]  # a failed call does not count


def _num_searches(row: Mapping[str, Any]) -> int:
    return sum(turn.get("tool") in SEARCHES for turn in _carried_out(row))


def _calls(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the successful calls of each further tool."""
    done = Counter(turn.get("tool") for turn in _carried_out(row))
    return {tool.name: done[tool.name] for tool in _tools(row)}


def _failed(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the failed calls of each tool, search first; of none if search is the only one."""
    failed = Counter(turn.get("tool") for turn in row["turns"] if turn["error"] is not None)
    names = [tool.name for tool in _tools(row)]
    return {name: failed[name] for name in (_SEARCH, *names)} if names else {}


def _token_counts(sources: pa.Array) -> dict[str, int]:
    """Count in Arrow: the lists are long, and nothing else of them is needed."""
    num_policy_tokens = pc.sum(pc.equal(sources, grammar.POLICY), min_count=0).as_py()
    return {"num_policy_tokens": num_policy_tokens, "num_tokens": len(sources)}
