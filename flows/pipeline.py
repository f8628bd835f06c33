"""Run the stages of dvc.yaml as tasks of a Prefect flow, in a separate workspace.

    python -m flows.pipeline --profile smoke
    python -m flows.pipeline --profile smoke --segment s1-00 --iterations s1-00=4

Deployments are in prefect.yaml; `make ui` serves them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from flows import names
from flows.server import prefect_server
from flows.workspace import check_place, open_workspace, run_stages
from r1_searcher.errors import PipelineError, command
from r1_searcher.files.artefacts import read_json
from r1_searcher.options import whole_number
from r1_searcher.shown import printable, show

FIRST_FIGURES = ("n", "cover_em", "f1", "format_rate", "search_rate", "searches_per_question")  # of a table on a page


def run_name() -> str:
    """Return the run's name."""
    return names.run_name("pipeline", flow_run.parameters)


@flow(name="pipeline", flow_run_name=run_name)
def pipeline(
    profile: str = "laptop",
    seed: int | None = None,
    segments: list[str] | None = None,
    iterations: dict[str, int] | None = None,
    changes: list[str] | None = None,
) -> str:
    """Bring the stages of a profile up to date in its workspace; returns the workspace's folder.

    Args:
        profile: A name in profiles/.
        seed: Another seed, with a workspace of its own.
        segments: Train these and what they need, and stop there. None: everything, evaluation and report too.
        iterations: Another number of iterations for some segments, e.g. {"s2-00": 80}.
        changes: Other values of parameters, e.g. ["train.stage2.learning_rate=2e-4"].
    """
    with open_workspace(profile, seed=seed, changes=changes or (), iterations=iterations) as place:
        check_place(place)
        done = run_stages(place, [f"train@{segment}" for segment in segments or ()])
        create_table_artifact(
            done, key=place.key("stages"), description=f"Stages of {place.name}: result and seconds of each"
        )
        if not segments:
            create_table_artifact(
                evaluation_rows(place.folder), key=place.key("evaluation"), description=f"Evaluation of {place.name}"
            )
        return str(place.folder)


def evaluation_rows(workspace: Path) -> list[dict[str, Any]]:
    """Return metrics/evaluation.json as a table: one row per policy and benchmark, each figure with its interval.

    The most important columns come first, and each row has every column, because the page takes them from the first
    row.
    """
    summary = read_json(workspace / "metrics" / "evaluation.json")
    rows = [
        {"policy": policy, "benchmark": benchmark} | values
        for policy, benchmarks in summary.items()
        for benchmark, values in benchmarks.items()
    ]
    found = {name for row in rows for name in row}
    first = [name for figure in FIRST_FIGURES for name in (figure, f"{figure}_ci") if name in found]
    columns = ["policy", "benchmark", *first, *sorted(found - {"policy", "benchmark", *first})]
    return [{name: _cell(row.get(name, "")) for name in columns} for row in rows]


def _cell(value: Any) -> Any:
    """Format a figure to three decimals, an interval as "0.412 to 0.498"."""
    if isinstance(value, list):
        return " to ".join(f"{end:.3f}" for end in value)
    if isinstance(value, str):
        return printable(value)
    return round(value, 3) if isinstance(value, float) else value


def lengths(texts: Sequence[str]) -> dict[str, int]:
    """Parse ``["s1-00=4"]`` into ``{"s1-00": 4}``."""
    found = {}
    for text in texts:
        name, _, count = text.partition("=")
        if not name or not count.isdecimal():
            raise PipelineError(
                f"not a segment and a number: {text!r}", where="--iterations", fix="write it as s1-00=4"
            )
        found[name] = int(count)
    return found


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="laptop", help="profile in profiles/ (default: laptop)")
    parser.add_argument("--seed", type=whole_number("--seed"), help="override the seed; uses its own workspace")
    parser.add_argument(
        "--segment", action="append", metavar="NAME", dest="segments", help="stop after this training segment"
    )
    parser.add_argument(
        "--iterations",
        action="append",
        default=[],
        metavar="NAME=N",
        help="override the number of iterations of a segment",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="override a parameter"
    )
    options = parser.parse_args(arguments)
    iterations = lengths(options.iterations)
    with prefect_server():
        workspace = pipeline(options.profile, options.seed, options.segments, iterations, options.changes)
    made = "data/train" if options.segments else "report/report.html"
    show(f"done: {workspace}/{made}")


if __name__ == "__main__":
    raise SystemExit(main())
