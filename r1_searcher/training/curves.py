"""Curves as CSV: one segment's, and all segments' joined for `dvc plots`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import write_text

FIRST_COLUMNS = ("iteration", "stage", "segment", "reward", "response_length", "searches", "format_rate", "f1")
CURVES = Path("plots/curves.csv")  # all segments, one row per iteration
WATCHES = Path("plots/watch.csv")  # all segments, one row per validation


def curves_csv(curves: Sequence[Mapping[str, Any]], watches: Mapping[int, Mapping[str, float]]) -> str:
    """Return one row per iteration: its figures and, as ``watch_*``, those of the validation after its update, if
    any."""
    rows = []
    for done, row in enumerate(curves, 1):
        watched = {f"watch_{name}": value for name, value in watches.get(done, {}).items()}
        rows.append({**row, **watched})
    return to_csv(rows)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with differing columns as CSV: known columns first, then by name; a missing figure is an empty
    cell."""
    others = sorted({name for row in rows for name in row} - set(FIRST_COLUMNS))
    names = [name for name in FIRST_COLUMNS if any(name in row for row in rows)] + others
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def gather(segments: Sequence[Path], root: Path) -> None:
    """Join the segments' curves into the two files that `dvc plots` draws: iterations and validations."""
    rows: list[dict[str, str]] = []
    for path in segments:
        try:
            rows += csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise PipelineError("no such file", where=str(path), fix="run `dvc repro`, which makes it") from None
    if not rows:
        raise PipelineError("no iteration in the segments' curves", where="plots/train")
    rows.sort(key=lambda row: int(row["iteration"]))
    figures = [{name: cell for name, cell in row.items() if not name.startswith("watch_")} for row in rows]
    watched = [
        {name.removeprefix("watch_"): cell for name, cell in row.items() if name.startswith("watch_")}
        | {name: row[name] for name in ("iteration", "stage", "segment")}
        for row in rows
        if row.get("watch_reward")
    ]
    write_text(root / CURVES, to_csv(figures))
    write_text(root / WATCHES, to_csv(watched))
