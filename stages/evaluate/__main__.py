"""Evaluate a policy, gather the summary, score answers of your own.

python -m stages.evaluate run --name stage1 --policy data/train/s1-00/policy --out data/evaluation/stage1
python -m stages.evaluate gather --out metrics/evaluation.json data/evaluation/base data/evaluation/stage1
python -m stages.evaluate score predictions.jsonl --json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.contract import params as contract
from stages.contract.artefacts import atomic, write_json
from stages.contract.errors import command
from stages.evaluate.protocol import MODES, mode_of
from stages.evaluate.run import run
from stages.evaluate.score import add_score_command
from stages.evaluate.summary import gather


def _run(options: argparse.Namespace) -> None:
    params = contract.load(options.params)
    mode = options.mode or mode_of(options.name)
    with atomic(options.out, folder=True) as draft:  # a benchmark that is gone leaves no file behind
        done = run(
            name=options.name,
            mode=mode,
            policy=options.policy,
            questions=options.questions,
            index=options.index,
            corpus=options.corpus,
            out=draft,
            params=params,
        )
        for line in done:
            print(
                f"{options.name} ({mode}) {line['benchmark']}: {line['n']} questions, EM {line['em']:.3f}, "
                f"Cover-EM {line['cover_em']:.3f}, {line['seconds']:.1f} s",
                flush=True,
            )


def _gather(options: argparse.Namespace) -> None:
    summary = gather(options.folders)
    write_json(options.out, summary)
    print(f"{options.out}: {len(summary)} policies, {max(map(len, summary.values()))} benchmarks")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("run", help="evaluate one policy on every benchmark")
    one.add_argument("--name", required=True, help="name in the summary; no_search and plain_rag name their modes")
    one.add_argument("--policy", type=Path, required=True, help="a Hugging Face folder")
    one.add_argument("--out", type=Path, required=True, help="folder for a Parquet file a benchmark")
    one.add_argument("--mode", choices=MODES, help="overrules the mode that the name says")
    one.add_argument("--questions", type=Path, default=Path("data/questions"))
    one.add_argument("--index", type=Path, default=Path("data/index"))
    one.add_argument("--corpus", type=Path, default=Path("data/corpus/passages.parquet"))
    one.add_argument("--params", type=Path, default=contract.PARAMS_FILE)
    one.set_defaults(run=_run)

    all_of_them = commands.add_parser("gather", help="write the summary of evaluated policies")
    all_of_them.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="one a policy, made by run")
    all_of_them.add_argument("--out", type=Path, required=True)
    all_of_them.set_defaults(run=_gather)

    add_score_command(commands)
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of ``python -m stages.evaluate``."""
    options = _parser().parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    sys.exit(main())
