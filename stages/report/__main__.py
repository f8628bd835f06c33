"""Write the HTML report of a run.

python -m stages.report
python -m stages.report --out report/report.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from r1_searcher import params as contract
from r1_searcher.errors import command
from r1_searcher.files.artefacts import write_text
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.report.inputs import read_inputs
from r1_searcher.report.page import render
from r1_searcher.shown import show


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of ``python -m stages.report``."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=free_place, default=Path("report/report.html"))
    parser.add_argument("--metrics", type=Path, default=Path("metrics"))
    parser.add_argument("--plots", type=Path, default=Path("plots/train"))
    parser.add_argument("--evaluation", type=Path, default=Path("data/evaluation"))
    parser.add_argument("--benchmark-evaluation", type=Path, default=Path("data/benchmark_evaluation"))
    parser.add_argument("--train", type=Path, default=Path("data/train"))
    parser.add_argument("--params", type=Path, default=contract.PARAMS_FILE)
    options = parser.parse_args(arguments)
    inputs = read_inputs(
        params=contract.load(options.params),
        params_file=options.params,
        metrics=options.metrics,
        plots=options.plots,
        evaluation=options.evaluation,
        benchmark_evaluation=options.benchmark_evaluation,
        train=options.train,
    )
    write_text(options.out, render(inputs))
    show(f"{options.out}: open it in a browser")


if __name__ == "__main__":
    sys.exit(main())
