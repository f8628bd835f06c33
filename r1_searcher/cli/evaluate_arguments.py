"""The command lines of `evaluate`. Nothing heavy is imported here: scoring must start at once."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher.files.stage_outputs import free_place
from r1_searcher.options import examples
from r1_searcher.transcripts.grammar import MODES

_PARAMS = Path("params.yaml")
_RECORD = Path("inputs/judge/replies.jsonl")
_OWN = Path("data/evaluation")  # policy / question set of the corpus
_EXTERNAL = Path("data/benchmark_evaluation")  # released benchmark / policy / benchmark


def add_all_command(commands: Any) -> argparse.ArgumentParser:
    """``all``, on an argparse subparsers object, as are the following."""
    parser = _command(commands, "all", "evaluate the policies of params.yaml on the questions of the corpus")
    parser.add_argument("--out", type=Path, default=_OWN, help="a folder a policy is made in it")
    parser.add_argument("--policies", type=Path, default=_EXTERNAL / "policies.json", help="gets their names, folders")
    _add_inputs(parser)
    parser.set_defaults(mode=None)
    return parser


def add_run_command(commands: Any) -> argparse.ArgumentParser:
    """``run``."""
    parser = _command(commands, "run", "evaluate one policy on every benchmark")
    parser.add_argument("--name", required=True, help="name in the summary; a baseline's name says its mode")
    policy = parser.add_mutually_exclusive_group(required=True)
    policy.add_argument("--policy", type=Path, help="a Hugging Face folder")
    policy.add_argument("--server", metavar="URL", help="an OpenAI-compatible server: http://127.0.0.1:8000/v1")
    parser.add_argument("--model", metavar="NAME", help="with --server: the model's name there")
    parser.add_argument("--key-variable", default="", metavar="NAME", help="the environment variable with its key")
    parser.add_argument("--interface", choices=("chat", "completions"), default="chat", help="of the server")
    parser.add_argument("--out", type=free_place, required=True, help="output folder; one Parquet file per benchmark")
    parser.add_argument("--mode", choices=MODES, help="overrules the mode that the name says")
    _add_inputs(parser)
    return parser


def add_benchmark_command(commands: Any) -> argparse.ArgumentParser:
    """``benchmark``."""
    parser = _command(commands, "benchmark", "evaluate one policy of params.yaml on one released benchmark")
    parser.add_argument("benchmark", metavar="BENCHMARK", help="a name in benchmarks.sets")
    parser.add_argument("--name", required=True, help="a name in evaluate.policies")
    parser.add_argument(
        "--benchmarks", type=Path, default=Path("data/benchmarks"), help="a folder a benchmark is in it"
    )
    parser.add_argument("--out", type=Path, default=_EXTERNAL, help="BENCHMARK/NAME is made in it")
    parser.add_argument("--params", type=Path, default=_PARAMS)
    return parser


def add_summary_command(commands: Any) -> argparse.ArgumentParser:
    """``summary``."""
    parser = _command(commands, "summary", "write the one summary of all that params.yaml evaluates")
    parser.add_argument("--evaluation", type=Path, default=_OWN)
    parser.add_argument("--benchmark-evaluation", type=Path, default=_EXTERNAL)
    parser.add_argument("--record", type=Path, default=_RECORD, help="a judge's replies, where there is one")
    parser.add_argument("--out", type=Path, default=Path("metrics/evaluation.json"))
    parser.add_argument(
        "--headline", type=Path, help="the few figures that `dvc metrics show` prints (headline beside --out)"
    )
    parser.add_argument("--params", type=Path, default=_PARAMS)
    return parser


def add_gather_command(commands: Any) -> argparse.ArgumentParser:
    """``gather``."""
    parser = _command(commands, "gather", "write the summary of evaluated policies")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="one a policy, made by run")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def _command(
    commands: Any, name: str, summary: str, description: str | None = None, shown: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """``shown``: examples of what follows the command's name."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description or summary)
    if shown:
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.description = textwrap.fill(description or summary, 100)
        parser.epilog = examples(parser.prog, *shown)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", type=Path, default=Path("data/questions"))
    parser.add_argument("--index", type=Path, default=Path("data/index"))
    parser.add_argument("--corpus", type=Path, default=Path("data/corpus"))
    parser.add_argument("--params", type=Path, default=_PARAMS)


def add_score_command(commands: Any) -> argparse.ArgumentParser:
    """``score``."""
    parser = _command(
        commands,
        "score",
        "score transcript files of the release (JSON lines)",
        shown=["transcripts.jsonl", "a.jsonl b.jsonl --json"],
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="as JSON, rates as fractions")
    return parser


def add_compare_command(commands: Any) -> argparse.ArgumentParser:
    """``compare``."""
    parser = _command(
        commands,
        "compare",
        "is policy B better, the same or worse than A? a paired verdict",
        "Is policy B better, the same or worse than A, question by question? Exit status: 0, 1 where B is worse, "
        "2 for an error, 3 where it cannot tell and --strict is given, 4 where the protocol cards differ.",
        ["data/evaluation/stage1 data/evaluation/stage2", "before.parquet after.parquet --margin 0.01 --json"],
    )
    parser.add_argument("reference", type=Path, metavar="A", help="an evaluated policy: a folder, or one Parquet file")
    parser.add_argument("candidate", type=Path, metavar="B", help="another, on the same questions")
    parser.add_argument("--benchmark", action="append", default=[], metavar="NAME", help="this benchmark alone")
    parser.add_argument("--margin", type=float, help="overrules regression.margin")
    parser.add_argument("--confidence", type=float, help="overrules regression.confidence")
    parser.add_argument("--even-so", action="store_true", help="compare although the protocol cards differ")
    parser.add_argument("--strict", action="store_true", help="fail where it cannot tell, too")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write a summary for a pull request")
    parser.add_argument("--params", type=Path, default=_PARAMS)
    return parser


def add_judge_command(commands: Any) -> argparse.ArgumentParser:
    """``judge``."""
    parser = _command(
        commands,
        "judge",
        "let a language model judge answers (ACC_L)",
        "Let the language model of params.yaml's `judge` say which answers mean what the gold answers mean. What is on "
        "record is not asked again. Where some could not be asked the rest is done, and the exit status is 2.",
        ["data/evaluation/stage2", "transcripts.jsonl --json"],
    )
    parser.add_argument(
        "places",
        type=Path,
        nargs="*",
        metavar="PLACE",
        help="evaluated policies (folders, .parquet), released transcripts (.jsonl); all of params.yaml, unless given",
    )
    parser.add_argument("--record", type=Path, default=_RECORD, help="the judge's replies")
    parser.add_argument("--evaluation", type=Path, default=_OWN)
    parser.add_argument("--benchmark-evaluation", type=Path, default=_EXTERNAL)
    parser.add_argument("--out", type=Path, default=Path("data/judge"), help="a Parquet file of verdicts for each file")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--params", type=Path, default=_PARAMS)
    return parser
