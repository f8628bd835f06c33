"""The commands that summarise: which evaluations a summary contains, and the summary as a table for the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from r1_searcher import params as contract
from r1_searcher import tables
from r1_searcher.evaluation.further_metrics import words
from r1_searcher.evaluation.headline import write_headline
from r1_searcher.evaluation.lost import lost_line
from r1_searcher.evaluation.summary import RIGHTNESS, Summary, gather
from r1_searcher.files.artefacts import write_json
from r1_searcher.judging.recorded import Judged, judged_by
from r1_searcher.rewards.columns import CALLS, mean_calls_in
from r1_searcher.shown import show, show_lines, table_width

# The terminal's table: key, heading. Each figure is followed by its interval.
COLUMNS = (
    ("em", "EM"),
    ("cover_em", "Cover-EM"),
    ("f1", "F1"),
    ("acc_l", "ACC_L"),
    ("format_rate", "format"),
    ("searches_per_question", "searches"),
)
_NOT_SHOWN = ("cover_em_contiguous", "search_rate", "tokens_per_question")  # in the summary and the report


def run_summary(options: argparse.Namespace) -> None:
    """Write the summary of everything that the parameters evaluate."""
    params = contract.load_or_shipped(options.params)
    judged = judged_by(params.judge, options.record)
    summary = _write(evaluation_folders(params, options.evaluation, options.benchmark_evaluation), options.out, judged)
    write_headline(summary, options.headline or options.out.parent / "headline")


def run_gather(options: argparse.Namespace) -> None:
    """Write the summary of existing folders."""
    _write(options.folders, options.out)


def _write(folders: Iterable[Path], out: Path, judged: Judged | None = None) -> Summary:
    summary = gather(folders, judged)
    write_json(out, summary)
    show_lines(text_table(summary, width=table_width(), file=out))
    for policy, row in summary.items():
        for benchmark, figures in row.items():
            if line := lost_line(f"{policy} on {benchmark}", figures):
                show(line)
    show(f"{out}: {len(summary)} policies, {max(map(len, summary.values()))} benchmarks")
    return summary


def evaluation_folders(params: contract.Params, own: Path, external: Path) -> list[Path]:
    """Return the folders of every policy that the parameters name, the corpus' question sets first.

    Folders that an earlier run left, of policies or benchmarks that are no longer named, are ignored.
    """
    policies = list(params.evaluate.policies)
    return [own / policy for policy in policies] + [
        external / benchmark / policy for benchmark in params.benchmarks.sets for policy in policies
    ]


def text_table(summary: Summary, *, width: int | None = None, file: Path | None = None) -> str:
    """Return one line per benchmark and policy: every metric's mean and, in brackets, its 95 % interval.

    If that is wider than ``width``, intervals are left out, and then metrics that are not the paper's; the last line
    says where they are: in ``file``.
    """
    whole = tables.text(_rows(summary), left=(0, 1))
    if width is None or _fits(whole, width):
        return whole
    short = tables.text(_rows(summary, intervals=False), left=(0, 1))
    if not _fits(short, width):
        short = tables.text(_rows(summary, intervals=False, further=False), left=(0, 1), width=width)
    return f"{short}\nintervals and further metrics: {file or 'on a wider terminal'}"


def _fits(table: str, width: int) -> bool:
    from rich.cells import cell_len

    return all(cell_len(line) <= width for line in table.splitlines())


def _rows(summary: Summary, *, intervals: bool = True, further: bool = True) -> list[list[str]]:
    given = dict.fromkeys(key for row in summary.values() for figures in row.values() for key in figures)
    calls = [(name, name.removeprefix(CALLS)) for name in mean_calls_in(given)]
    listed = (*COLUMNS, *calls)
    known = {*_NOT_SHOWN, *(key for key, _ in listed)}
    columns = [(key, heading) for key, heading in listed if key in given]
    after = 1 + max((place for place, (key, _) in enumerate(columns) if key in RIGHTNESS), default=-1)
    if further:
        columns[after:after] = [(key, heading) for key, heading, _ in words(given, known)]
    rows = [["benchmark", "policy", "n", *(heading for _, heading in columns)]]
    for benchmark in dict.fromkeys(name for row in summary.values() for name in row):
        for policy, row in summary.items():
            if benchmark in row:
                figures = row[benchmark]
                cells = [_figure(figures, key, interval=intervals) for key, _ in columns]
                rows.append([benchmark, policy, str(figures["n"]), *cells])
    return rows


def _figure(figures: dict[str, object], key: str, *, interval: bool) -> str:
    value, ends = figures.get(key), figures.get(f"{key}_ci") if interval else None
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]" if isinstance(ends, list) else f"{value:.3f}"
