"""The figures that `dvc metrics show` prints: one small file per benchmark and policy, so that its table stays
narrow."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.evaluation.summary import Summary
from r1_searcher.files.artefacts import write_json
from r1_searcher.rewards.columns import mean_calls_in

# Key in the summary → column of DVC's table. Everything else, including intervals, is in the summary.
_COLUMNS = {
    "em": "em",
    "cover_em": "cover_em",
    "f1": "f1",
    "format_rate": "format_rate",
    "search_rate": "search_rate",
    "searches_per_question": "searches",
}


def write_headline(summary: Summary, folder: Path) -> None:
    """Write ``folder/BENCHMARK/POLICY.json`` of each evaluation, and remove other files.

    The folder has no checksum file: DVC would show it as one more metric.
    """
    written = set()
    for policy, row in summary.items():
        for benchmark, figures in row.items():
            path = folder / benchmark / f"{policy}.json"
            columns = {**_COLUMNS, **{name: name for name in mean_calls_in(figures)}}
            write_json(path, {column: figures[key] for key, column in columns.items() if key in figures})
            written.add(path)
    for path in set(folder.glob("*/*.json")) - written:
        path.unlink()
