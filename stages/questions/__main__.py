"""Make the questions (`python -m stages.questions`): from a world's facts, or from the user's files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stages.contract import params
from stages.contract.errors import command


@command
def main(argv: list[str] | None = None) -> None:
    """Read the command line and params.yaml, and write the questions folder."""
    options = _parser().parse_args(argv)
    settings = params.load(options.params)
    from stages.questions.run import run

    report = run(settings.questions, settings.seed, options.corpus, options.questions)
    sizes = ", ".join(f"{split['num_questions']:,} {name}" for name, split in report["splits"].items())
    print(f"questions: {sizes} -> {options.questions}")
    for line in overlap_lines(report):
        print(line)


def overlap_lines(report: dict[str, Any]) -> list[str]:
    """One line a split that shares questions or supporting titles with training; none where all are apart."""
    lines = []
    for name, shared in report["overlap_with_train"].items():
        if shared["same_question"] or shared["same_title"]:
            titles = f", {shared['same_title']:,} share a supporting title" if shared["same_title"] else ""
            lines.append(
                f"note: of the {shared['num_questions']:,} questions of {name}, {shared['same_question']:,} "
                f"are asked in training too{titles}"
            )
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.questions",
        description="Write a Parquet file a split, and report.json, as `questions` in the parameters says: composed "
        "from the corpus' facts, or read from files with question and answer (.jsonl, .json, .tsv, .parquet).",
    )
    parser.add_argument(
        "--params", type=Path, default=params.PARAMS_FILE, metavar="FILE", help="parameters (default: %(default)s)"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path("data/corpus"),
        metavar="FOLDER",
        help="folder with facts.parquet, for source: world (default: %(default)s)",
    )
    parser.add_argument(
        "--questions",
        type=Path,
        default=Path("data/questions"),
        metavar="FOLDER",
        help="folder that is written (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
