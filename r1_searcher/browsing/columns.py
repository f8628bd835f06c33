"""The columns of a browsed file, cleaned and aligned with the trajectories they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from r1_searcher.browsing.folders import DataFile, Source
from r1_searcher.rewards import metrics
from r1_searcher.rewards.columns import CALLS, FAILED, PREFIX
from r1_searcher.rewards.scoring import SEARCHES

_MEASURED = pa.schema([(name, pa.float64()) for name in ("em", "f1", "cover_em")] + [("num_searches", pa.int32())])
BATCH = 8192  # rows that are in memory at once
_SAFE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")  # of a column that a user's reward set or tool adds

STRINGS = ("trajectory_id", "question_id", "question", "answer", "finish_reason", "text")
_NUMBERS = ("total", "retrieval", "format", "answer_reward", "em", "f1", "cover_em")
_COUNTS = ("num_searches", "num_tokens", "num_policy_tokens")
_LENGTHS = {"num_tokens": "token_ids", "num_policy_tokens": "policy_logprobs"}


def open_parquet(file: DataFile) -> pq.ParquetFile:
    """Open a file so that reading one column does not load the whole row group at once."""
    return pq.ParquetFile(file.path, buffer_size=1 << 18, pre_buffer=False)


def added_columns(names: Sequence[str]) -> list[str]:
    """Return the columns that a reward set or a tool of the user's adds to rewards or evaluations."""
    return [name for name in names if name.startswith((PREFIX, CALLS, FAILED)) and _SAFE.fullmatch(name)]


def batches(source: Source) -> Iterator[pa.Table]:
    """Yield a source's trajectories in file order, at most ``BATCH`` at a time, with what rewards and advantages say.

    Columns: ``STRINGS``, golds (list), violations (list), sample, the figures, and ``added_columns``; a figure
    that is unknown is null.
    """
    scored, trained = _rewards(source.rewards), _advantages(source.advantages)
    asked = [name for name in _wanted(source) if name in source.file.columns]
    with open_parquet(source.file) as file:
        for batch in file.iter_batches(batch_size=BATCH, columns=asked):
            table = valid_text(pa.Table.from_batches([batch]))
            if source.kind == "evaluation":
                yield _evaluated(table)
            else:
                yield _joined(table, scored if source.rewards else _measured(table), trained)


def _wanted(source: Source) -> list[str]:
    if source.kind == "evaluation":
        own = ["question_id", "question", "answers", "prediction", "finish_reason", "text", "violations"]
        return [*own, "em", "f1", "cover_em", "format_right", *_COUNTS, *added_columns(source.file.columns)]
    own = ["trajectory_id", "question_id", "sample", "question", "answers", "answer", "finish_reason", "text"]
    return own if source.rewards else [*own, "turns", *_LENGTHS.values()]


def valid_text(table: pa.Table) -> pa.Table:
    """Return a table whose strings are UTF-8: bytes that are not become U+FFFD."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        for place, field in enumerate(table.schema):
            if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
                raw = table.column(place).cast(pa.binary()).to_pylist()
                fixed = [None if one is None else one.decode("utf-8", "replace") for one in raw]
                table = table.set_column(place, field.name, pa.array(fixed, pa.string()))
        table.validate(full=True)
    return table


def _column(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as a type; null in every row if there is none, or if it is of a type that cannot be shown."""
    if name in table.column_names:
        try:
            return table[name].cast(kind, safe=False)
        except pa.ArrowException:
            pass
    return pa.chunked_array([pa.nulls(table.num_rows, kind)])


def _common(table: pa.Table, answer: str) -> dict[str, pa.ChunkedArray]:
    own = {name: _column(table, name, pa.string()) for name in STRINGS if name != "answer"}
    own["answer"] = _column(table, answer, pa.string())
    own["golds"] = _column(table, "answers", pa.list_(pa.string()))
    own["sample"] = _column(table, "sample", pa.int32())
    return own


def _figures(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    found = {name: _column(table, name, pa.float64()) for name in _NUMBERS if name != "answer_reward"}
    found |= {name: _column(table, name, pa.int32()) for name in _COUNTS}
    found |= {name: _column(table, name, pa.float64()) for name in added_columns(table.column_names)}
    found["format_right"] = _column(table, "format_right", pa.bool_())
    found["counted"] = _column(table, "counted", pa.bool_())
    found["violations"] = _column(table, "violations", pa.list_(pa.string()))
    return found


def _evaluated(table: pa.Table) -> pa.Table:
    figures = _figures(table)
    figures["answer_reward"] = figures["advantage"] = pa.chunked_array([pa.nulls(table.num_rows, pa.float64())])
    return pa.table(_common(table, "prediction") | figures)


def _joined(table: pa.Table, scored: pa.Table, trained: pa.Table) -> pa.Table:
    own = _common(table, "answer")
    of_rewards = scored.take(pc.index_in(own["trajectory_id"], value_set=scored["trajectory_id"]))
    of_advantages = trained.take(pc.index_in(own["trajectory_id"], value_set=trained["trajectory_id"]))
    figures = _figures(of_rewards)
    figures["answer_reward"] = _column(of_rewards, "answer", pa.float64())
    figures["advantage"] = of_advantages["advantage"]
    return pa.table(own | figures)


def measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what needs no reward set: the number of searches of a row of rollouts, and its metrics if it has gold
    answers."""
    golds = [gold for gold in row.get("answers") or [] if gold is not None]
    turns = [turn for turn in row.get("turns") or [] if isinstance(turn, Mapping) and turn.get("error") is None]
    searches = {"num_searches": sum(turn.get("tool") in SEARCHES for turn in turns)}
    if not golds:
        return searches
    scores = {name: getattr(metrics, name)(row.get("answer"), golds) for name in ("em", "f1", "cover_em")}
    return scores | searches


def _measured(table: pa.Table) -> pa.Table:
    """Return what stands for the rewards of trajectories that have none."""
    read = {
        "answer": _column(table, "answer", pa.string()),
        "answers": _column(table, "answers", pa.list_(pa.string())),
    }
    read |= {"turns": table["turns"]} if "turns" in table.column_names else {}
    found = pa.Table.from_pylist([measured(row) for row in pa.table(read).to_pylist()], _MEASURED)
    for name, of in _LENGTHS.items():
        if of in table.column_names and pa.types.is_list(table.schema.field(of).type):
            found = found.append_column(name, pc.list_value_length(table[of]))
    return found.append_column("trajectory_id", _column(table, "trajectory_id", pa.string())).combine_chunks()


def _rewards(file: DataFile | None) -> pa.Table:
    if file is None:
        return pa.table({"trajectory_id": pa.array([], pa.string())})
    wanted = ["trajectory_id", "total", "retrieval", "format", "answer", "em", "f1", "cover_em", "format_right"]
    wanted += ["counted", "violations", *_COUNTS, *added_columns(file.columns)]
    with open_parquet(file) as opened:
        return valid_text(opened.read([name for name in wanted if name in file.columns])).combine_chunks()


def _advantages(file: DataFile | None) -> pa.Table:
    """Return each trajectory's mean advantage over its policy tokens."""
    ids, means = [pa.array([], pa.string())], [pa.array([], pa.float64())]
    if file is not None:
        with open_parquet(file) as opened:
            for batch in opened.iter_batches(batch_size=BATCH, columns=["trajectory_id", "advantages"]):
                ids.append(batch.column("trajectory_id").cast(pa.string()))
                means.append(_list_means(batch.column("advantages")))
    table = pa.table({"trajectory_id": pa.chunked_array(ids), "advantage": pa.chunked_array(means)})
    return valid_text(table).combine_chunks()


def _list_means(lists: pa.Array) -> pa.Array:
    lists = lists.cast(pa.list_(pa.float64()))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    values = lists.flatten().to_numpy(zero_copy_only=False)
    some = lengths > 0
    totals = np.zeros(len(lengths))
    if some.any():  # sums of runs, not differences of sums: a NaN stays where it is
        totals[some] = np.add.reduceat(values, (np.cumsum(lengths) - lengths)[some])
    return pa.array(totals / np.maximum(lengths, 1), pa.float64(), mask=~some)
