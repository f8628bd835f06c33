"""Make the corpus (`python -m stages.corpus`): a synthetic world, or passages from files."""

from __future__ import annotations

import argparse
from pathlib import Path

from r1_searcher import params
from r1_searcher.errors import command
from r1_searcher.files import sums
from r1_searcher.shown import show

_CORPUS = Path("data/corpus")


@command
def main(argv: list[str] | None = None) -> None:
    """Read the command line and params.yaml, and write the corpus folder."""
    options = _parser().parse_args(argv)
    settings = params.load(options.params)
    if options.corpus != _CORPUS:  # which is DVC's own
        sums.check_replaceable(options.corpus)
    from stages.corpus.run import run

    report = run(settings.corpus, settings.seed, options.corpus)
    skipped = "".join(f", {number:,} skipped ({reason})" for reason, number in sorted(report["skipped"].items()))
    number = report.get("passages", report["kept"])
    show(f"corpus: {number:,} passages{skipped}, {report['facts']:,} facts -> {options.corpus}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.corpus",
        description="Write the passages, facts.parquet and report.json. `corpus` in the parameters selects the source: "
        "a synthetic world, files with title and text, KILT's pages, HotpotQA's abstracts, or questions' contexts.",
    )
    parser.add_argument(
        "--params", type=Path, default=params.PARAMS_FILE, metavar="FILE", help="parameters (default: %(default)s)"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        default=_CORPUS,
        metavar="FOLDER",
        help="output folder (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
