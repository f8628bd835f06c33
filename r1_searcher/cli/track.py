"""`r1-searcher track`: show finished training segments in the trackers of params.yaml; trains nothing."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError, command
from r1_searcher.files.artefacts import read_json
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.shown import show


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog=prog or "r1-searcher track",
        description="Show finished training segments in the trackers of params.yaml, or in others. Trains nothing; "
        "an iteration that a tracker already has is not logged again.",
        epilog=examples(prog or "r1-searcher track", "", "s2-00 --trackers tensorboard mlflow"),
        formatter_class=HelpFormatter,
    )
    made.add_argument("segments", nargs="*", metavar="SEGMENT", help="keys of train.segments; all if none is named")
    made.add_argument("--trackers", nargs="+", metavar="NAME", help="names of trackers (default: tracking.trackers)")
    made.add_argument(
        "--params", type=Path, default=contract.PARAMS_FILE, metavar="FILE", help="parameters (default: %(default)s)"
    )
    return made


@command
def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Run the command line."""
    options = parser(prog).parse_args(arguments)
    params = contract.load(options.params)
    if options.trackers:
        section = params.tracking
        given = {**section.model_dump(), "trackers": options.trackers, "extensions": section.extensions}
        params = params.model_copy(update={"tracking": type(section).model_validate(given)})
    if not params.tracking.trackers:
        raise PipelineError("no tracker is named", where="tracking.trackers", fix="name one there, or by --trackers")
    for name in options.segments or params.train.segments:
        if name not in params.train.segments:
            known = ", ".join(params.train.segments)
            raise PipelineError(f"no segment {name!r}", where="train.segments", fix=f"known: {known}")
        _track(name, params, options.params)


def _track(name: str, params: contract.Params, file: Path) -> None:
    from r1_searcher.tracking.journal import Tracking, figures_of
    from r1_searcher.training.segment import SegmentState

    curves, summary = Path("plots/train") / f"{name}.csv", Path("metrics/train") / f"{name}.json"
    if not curves.exists() or not summary.exists():
        raise PipelineError("is not trained yet", where=f"segment {name}", fix="train it: make train")
    state = SegmentState(name, params_file=file)
    state.params = params
    rows = list(csv.DictReader(io.StringIO(curves.read_text(encoding="utf-8"))))
    tracking = Tracking(state, show)
    tracking.row(state.number(-1), figures_of({}, read_json(summary)["watch_before"]))
    for row in rows:
        numbers = {column: float(cell) for column, cell in row.items() if column not in ("stage", "segment") and cell}
        tracking.row(int(row["iteration"]), figures_of(numbers, {}))
    if failed := tracking.close():
        raise PipelineError(
            "did not take all rows", where=f"tracker {', '.join(failed)}", fix="the line above says why"
        )
    show(f"{name}: {len(rows)} iterations are in {', '.join(dict.fromkeys(params.tracking.trackers))}")
