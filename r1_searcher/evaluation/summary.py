"""The summary of all policies: means with bootstrap intervals, by policy and benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.lost import LOST_BOUNDS, lost_rows
from r1_searcher.files.artefacts import read_metadata, read_table
from r1_searcher.judging.recorded import Judged
from r1_searcher.protocol_card import SUBJECT, differences
from r1_searcher.rewards.columns import calls_in
from r1_searcher.rewards.metrics import CREDIT_PARTS, num_compared_exactly
from r1_searcher.statistics import bootstrap
from r1_searcher.types.arrays import Floats
from r1_searcher.types.schemas import EVALUATION

RIGHTNESS = ("em", "f1", "cover_em", "cover_em_contiguous")
_COMPARISON = "comparison"
GUESS_RATE = 0.5  # EM of copying one of a comparison's two options at random
_DIGITS = 6

Summary = dict[str, dict[str, Any]]


def _columns(table: pa.Table, further: Iterable[str]) -> dict[str, Floats]:
    """Return every metric's values per question, (N,); ``further``: the names of ``evaluate.metrics``."""

    def of(name: str) -> Floats:
        values: Floats = table[name].to_numpy(zero_copy_only=False).astype(np.float64)
        return values

    return {
        **{name: of(name) for name in RIGHTNESS},
        "format_rate": of("format_right"),
        "searches_per_question": of("num_searches"),
        "search_rate": (of("num_searches") > 0).astype(np.float64),
        "tokens_per_question": of("num_tokens"),
        **{name: of(name) for name in (*calls_in(table.column_names), *further)},
    }


def summarise(
    table: pa.Table, *, kinds: Iterable[str], needed_searches: float | None, further: Sequence[str] = ()
) -> dict[str, Any]:
    """Return one benchmark's figures: ``n``, the mean of every metric, and ``<metric>_ci`` [low, high], 95 %.

    ``table`` has the EVALUATION columns, plus ``calls_NAME`` of further tools if there are any, and those of the
    ``further`` metrics; ``kinds`` are the kinds of its questions. A benchmark of comparisons only is reported by EM
    (and a judge) beside its guess rate: copying an option at random is right half the time, and F1 or cover would
    credit copying both. ``num_exact_golds``: gold answers that normalise to nothing and are compared exactly, if there
    are any. ``lost``: questions lost to a failed search or tool, if there are any; then ``<metric>_bounds`` of each
    metric of answers are its mean if all of them were wrong, as counted, and if all were right. Raises
    ``PipelineError`` without questions.
    """
    if table.num_rows == 0:
        raise PipelineError("an evaluation without questions", fix="run `dvc repro`")
    comparison = set(kinds) == {_COMPARISON}
    columns = _columns(table, further)
    names = [name for name in columns if not comparison or name not in CREDIT_PARTS]
    values = np.stack([columns[name] for name in names], axis=1)  # (N, M)
    ends = bootstrap.intervals(values)  # (M, 2)
    figures: dict[str, Any] = {"n": table.num_rows}
    for place, name in enumerate(names):
        figures[name] = round(float(values[:, place].mean()), _DIGITS)
        figures[f"{name}_ci"] = [round(float(end), _DIGITS) for end in ends[place]]
    if number := num_compared_exactly(table["answers"].to_pylist()):
        figures["num_exact_golds"] = number
    if lost := int(lost_rows(table).sum()):
        figures["lost"] = lost
        for name in (name for name in names if name in (*RIGHTNESS, *further)):
            wrong = float(columns[name].mean())
            figures[name + LOST_BOUNDS] = [round(wrong, _DIGITS), round(wrong + lost / table.num_rows, _DIGITS)]
    if comparison:
        figures["guess_rate"] = GUESS_RATE
    if needed_searches is not None:
        figures["needed_searches"] = round(needed_searches, _DIGITS)
    return figures


def read_policy(folder: Path) -> dict[str, tuple[pa.Table, dict[str, Any]]]:
    """Return tables and metadata of every benchmark in a policy's evaluation folder, by benchmark."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise PipelineError("no evaluation here", where=str(folder), fix="run `dvc repro`, which makes it")
    found = {}
    for file in files:
        metadata = read_metadata(file)
        if "card" not in metadata:
            raise PipelineError("no protocol card in this file", where=str(file), fix="evaluate the policy again")
        table = read_table(file)
        calls = [table.schema.field(name) for name in calls_in(table.column_names)]
        further = [(name, pa.float64()) for name in metadata.get("metrics", ())]
        found[file.stem] = (read_table(file, pa.schema([*EVALUATION, *calls, *further])), metadata)
    return found


def gather(folders: Iterable[Path], judged: Judged | None = None) -> Summary:
    """Return ``{policy: {benchmark: figures}}`` of evaluation folders, one per policy.

    Raises ``PipelineError`` with the differing line if two cards of a benchmark differ in more than policy and mode.
    ``judged`` adds a judge's figures.
    """
    summary: Summary = {}
    first: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for folder in folders:
        for benchmark, (table, metadata) in read_policy(folder).items():
            card = metadata["card"]
            reference_folder, reference = first.setdefault(benchmark, (folder, card))
            apart = differences(card, reference, besides=_allowed_differences(card, reference))
            if apart:
                raise PipelineError(
                    f"{benchmark} was measured under another protocol than in {reference_folder}: {apart[0]}",
                    where=str(folder),
                    fix="evaluate both again with the same parameters: `dvc repro`",
                )
            row = summary.setdefault(card["policy"], {})
            if benchmark in row:
                raise PipelineError(f"policy {card['policy']!r} is given twice", where=str(folder))
            row[benchmark] = summarise(
                table,
                kinds=metadata["kinds"],
                needed_searches=metadata["needed_searches"],
                further=metadata.get("metrics", ()),
            )
            if judged is not None:
                row[benchmark] |= judged(table)
    return summary


def _allowed_differences(card: Mapping[str, Any], reference: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines that may differ within one summary: a baseline has another mode and perhaps another prompt; a
    served policy samples elsewhere and counts its tokens differently."""
    besides: tuple[str, ...] = SUBJECT
    if card["mode"] != reference["mode"]:
        besides = (*besides, "mode", "prompt", "prompt_sha256", "tools")  # the baselines have search alone
    if card.get("tokens") != reference.get("tokens"):
        besides = (*besides, "engine", "dtype", "tokens")
    return besides
