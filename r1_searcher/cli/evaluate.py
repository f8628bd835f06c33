"""`evaluate`: evaluate policies, gather the summary, score answers of your own, compare two policies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from r1_searcher.cli import evaluate_arguments as arguments
from r1_searcher.errors import command
from r1_searcher.options import HelpFormatter, examples

_EXAMPLES = (
    "all",
    "benchmark hotpotqa_contexts --name stage2",
    "summary",
    "run --name mine --policy path/to/model --out evaluations/mine",
    "gather --out evaluations/summary.json evaluations/mine data/evaluation/stage2",
    "score predictions.jsonl --json",
    "compare data/evaluation/stage1 data/evaluation/stage2",
    "judge data/evaluation/stage2",
)

# Each command imports what it needs when it is run.


def _run(options: argparse.Namespace) -> None:
    from r1_searcher.evaluation.policies import run_one

    run_one(options)


def _all(options: argparse.Namespace) -> None:
    from r1_searcher.evaluation.policies import run_all

    run_all(options)


def _benchmark(options: argparse.Namespace) -> None:
    from r1_searcher.evaluation.policies import run_benchmark

    run_benchmark(options)


def _summary(options: argparse.Namespace) -> None:
    from r1_searcher.evaluation.summary_commands import run_summary

    run_summary(options)


def _gather(options: argparse.Namespace) -> None:
    from r1_searcher.evaluation.summary_commands import run_gather

    run_gather(options)


def _score(options: argparse.Namespace) -> None:
    from r1_searcher.evaluation.score import run

    run(options)


def _compare(options: argparse.Namespace) -> int:
    from r1_searcher.statistics.compare import run

    return run(options)


def _judge(options: argparse.Namespace) -> None:
    from r1_searcher.evaluation.ask_judge import run

    run(options)


def parser(prog: str = "r1-searcher evaluate") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Evaluate policies, summarise results, score transcript files, compare two policies.",
        epilog=examples(prog, *_EXAMPLES),
        formatter_class=HelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add, run in (
        (arguments.add_all_command, _all),
        (arguments.add_run_command, _run),
        (arguments.add_benchmark_command, _benchmark),
        (arguments.add_summary_command, _summary),
        (arguments.add_gather_command, _gather),
        (arguments.add_score_command, _score),
        (arguments.add_compare_command, _compare),
        (arguments.add_judge_command, _judge),
    ):
        add(commands).set_defaults(run=run)
    return parser


@command
def main(argv: Sequence[str] | None = None, prog: str = "r1-searcher evaluate") -> int | None:
    """Read the command line and do what it says."""
    options = parser(prog).parse_args(argv)
    status: int | None = options.run(options)
    return status
