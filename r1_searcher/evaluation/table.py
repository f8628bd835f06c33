"""From rollouts to one row per question: the prediction, every metric, and the transcript by provenance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa

from r1_searcher.rewards.columns import calls_in
from r1_searcher.transcripts import grammar
from r1_searcher.types.schemas import EVALUATION, SEGMENT, TOOLS_FIELD

# The columns of EVALUATION, plus what a reader needs to judge the rows: who wrote what, and which rules were broken. A
# reader with the schema EVALUATION does not see the last two.
EVALUATION_COLUMNS = pa.schema([*EVALUATION, ("segments", pa.list_(SEGMENT)), ("violations", pa.list_(pa.string()))])

ContiguousCover = Callable[[str | None, Sequence[str]], float]


def columns_of(names: Iterable[str]) -> pa.Schema:
    """Return ``EVALUATION_COLUMNS`` plus those of ``names`` that exist only if the policy may call tools beside search:
    its calls of each (``calls_NAME``) and ``TOOLS_FIELD``."""
    names = list(names)
    calls = [pa.field(name, pa.int32()) for name in calls_in(names)]
    return pa.schema([*EVALUATION_COLUMNS, *calls, *([TOOLS_FIELD] if TOOLS_FIELD.name in names else [])])


def evaluation_table(rollouts: pa.Table, rewards: pa.Table, contiguous: ContiguousCover) -> pa.Table:
    """Return ``columns_of`` (N rows) of greedy ``rollouts`` (schema ROLLOUTS) and their ``rewards`` (REWARDS), row by
    row.

    ``contiguous(prediction, answers)`` is the contiguous Cover-EM, which rewards lack. A question that was lost to a
    search or a tool (its finish reason says so) has no prediction, and so counts as wrong.
    """
    assert rollouts["trajectory_id"].equals(rewards["trajectory_id"]), "rewards are of other trajectories"
    predictions = rollouts["answer"].to_pylist()
    for reason, counted, prediction in zip(
        rollouts["finish_reason"].to_pylist(), rewards["counted"].to_pylist(), predictions, strict=True
    ):
        assert counted != (reason in grammar.LOST_FINISHES), "what does not count was lost, and nothing else"
        assert counted or prediction is None, "a lost trajectory has no answer"
    answers = rollouts["answers"].to_pylist()
    cover = [contiguous(prediction, gold) for prediction, gold in zip(predictions, answers, strict=True)]
    columns = {
        **{
            name: rollouts[name] for name in ("question_id", "question", "answers", "finish_reason", "text", "segments")
        },
        **{
            name: rewards[name]
            for name in ("em", "f1", "cover_em", "format_right", "num_searches", "num_tokens", "violations")
        },
        "prediction": rollouts["answer"],
        "cover_em_contiguous": pa.array(cover, pa.float64()),
        **{name: rewards[name] for name in calls_in(rewards.column_names)},
        **{name: rollouts[name] for name in (TOOLS_FIELD.name,) if name in rollouts.column_names},
    }
    schema = columns_of(columns)
    return pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema)
