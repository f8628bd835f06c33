"""The command lines of `evaluate`. Nothing heavy is imported here: scoring must start at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher.files.stage_outputs import free_place
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.transcripts.grammar import MODES

_PARAMS = Path("params.yaml")
_RECORD = Path("inputs/judge/replies.jsonl")
_OWN = Path("data/evaluation")  # policy / question set of the corpus
_EXTERNAL = Path("data/benchmark_evaluation")  # released benchmark / policy / benchmark


def add_all_command(commands: Any) -> argparse.ArgumentParser:
    """``all``, on an argparse subparsers object, as are the following."""
    about = "evaluate all policies in params.yaml on the corpus' questions"
    parser = _command(commands, "all", about, shown=["", "--out evaluations"])
    parser.add_argument("--out", type=free_place, default=_OWN, help="output folder; one subfolder per policy")
    parser.add_argument("--policies", type=Path, default=_EXTERNAL / "policies.json", help="output list of policies")
    _add_inputs(parser)
    parser.set_defaults(mode=None)
    return parser


def add_run_command(commands: Any) -> argparse.ArgumentParser:
    """``run``."""
    parser = _command(
        commands,
        "run",
        "evaluate one policy on every benchmark",
        shown=[
            "--name mine --policy path/to/model --out evaluations/mine",
            "--name base_no_search --policy data/base_model --out evaluations/base_no_search",
            "--name mine --server http://127.0.0.1:8000/v1 --model NAME --out evaluations/mine",
        ],
    )
    parser.add_argument("--name", required=True, help="name in the summary; its ending selects a baseline mode")
    policy = parser.add_mutually_exclusive_group(required=True)
    policy.add_argument("--policy", type=Path, help="Hugging Face model folder")
    policy.add_argument("--server", metavar="URL", help="OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1")
    parser.add_argument("--model", metavar="NAME", help="with --server: name of the model on it")
    parser.add_argument(
        "--key-variable", default="", metavar="NAME", help="environment variable that holds the server's key"
    )
    parser.add_argument("--interface", choices=("chat", "completions"), default="chat", help="the server's API")
    parser.add_argument("--out", type=free_place, required=True, help="output folder; one Parquet file per benchmark")
    parser.add_argument("--mode", choices=MODES, help="overrides the mode in the name")
    _add_inputs(parser)
    return parser


def add_benchmark_command(commands: Any) -> argparse.ArgumentParser:
    """``benchmark``."""
    about = "evaluate one policy in params.yaml on one released benchmark"
    parser = _command(commands, "benchmark", about, shown=["hotpotqa_contexts --name stage2"])
    parser.add_argument("benchmark", metavar="BENCHMARK", help="a name in benchmarks.sets")
    parser.add_argument("--name", required=True, help="a name in evaluate.policies")
    parser.add_argument(
        "--benchmarks", type=Path, default=Path("data/benchmarks"), help="input folder; one subfolder per benchmark"
    )
    parser.add_argument("--out", type=free_place, default=_EXTERNAL, help="output folder; gets BENCHMARK/NAME")
    _add_params(parser)
    return parser


def add_summary_command(commands: Any) -> argparse.ArgumentParser:
    """``summary``."""
    parser = _command(commands, "summary", "summarise all evaluations that params.yaml names", shown=[""])
    _add_evaluations(parser)
    parser.add_argument("--record", type=Path, default=_RECORD, help="a judge's replies, if there are any")
    parser.add_argument(
        "--out",
        type=free_place,
        default=Path("metrics/evaluation.json"),
        help="JSON file to write (default: %(default)s)",
    )
    parser.add_argument(
        "--headline",
        type=Path,
        help="folder for the figures that `dvc metrics show` prints (default: headline beside --out)",
    )
    _add_params(parser)
    return parser


def add_gather_command(commands: Any) -> argparse.ArgumentParser:
    """``gather``."""
    shown = ["--out evaluations/summary.json evaluations/mine data/evaluation/stage2"]
    parser = _command(commands, "gather", "summarise some evaluated policies", shown=shown)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="one per policy, written by `run`")
    parser.add_argument("--out", type=free_place, required=True, help="JSON file to write")
    return parser


def _command(
    commands: Any, name: str, summary: str, description: str | None = None, shown: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """``shown``: examples of what follows the command's name."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description or summary)
    if shown:
        parser.formatter_class = HelpFormatter
        parser.epilog = examples(parser.prog, *shown)
    return parser


def _add_params(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--params", type=Path, default=_PARAMS, help="parameters (default: %(default)s)")


def _add_evaluations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--evaluation", type=Path, default=_OWN, help="evaluations on the corpus' questions (default: %(default)s)"
    )
    parser.add_argument(
        "--benchmark-evaluation",
        type=Path,
        default=_EXTERNAL,
        help="evaluations on released benchmarks (default: %(default)s)",
    )


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--questions", type=Path, default=Path("data/questions"), help="folder of question files (default: %(default)s)"
    )
    parser.add_argument("--index", type=Path, default=Path("data/index"), help="index folder (default: %(default)s)")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path("data/corpus"),
        help="corpus of the index; an index of another corpus is refused (default: %(default)s)",
    )
    _add_params(parser)


def add_score_command(commands: Any) -> argparse.ArgumentParser:
    """``score``."""
    parser = _command(
        commands,
        "score",
        "score answers of any system: predictions, or transcripts in the release's format",
        "EM, Cover-EM, contiguous cover and F1, and SQuAD's EM and F1, of files with gold answers and predictions "
        "(JSONL, JSON, CSV, TSV, Parquet; compressed or not). Of transcripts in the release's format, also searches "
        "and judged answers.",
        shown=["predictions.jsonl", "transcripts.jsonl", "a.jsonl b.parquet --json", "chinese.jsonl --metric f1_chars"],
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="predictions or transcripts")
    parser.add_argument(
        "--questions",
        type=Path,
        metavar="FILE",
        help="questions with gold answers, for predictions by id as SQuAD, HotpotQA and KILT have them",
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="one more answer metric, e.g. f1_chars or cover_chars for languages without spaces (repeatable)",
    )
    parser.add_argument(
        "--extension", action="append", default=[], metavar="FILE", help="your own file that registers more metrics"
    )
    parser.add_argument("--json", action="store_true", help="print JSON; rates are fractions")
    return parser


def add_compare_command(commands: Any) -> argparse.ArgumentParser:
    """``compare``."""
    parser = _command(
        commands,
        "compare",
        "test whether policy B is better or worse than A (paired verdict)",
        "Compare policy B with A question by question: better, same, worse, or cannot tell. Exit status: 0; 1 if B is "
        "worse; 2 for an error; 3 if it cannot tell and --strict is given; 4 if the protocol cards differ.",
        ["data/evaluation/stage1 data/evaluation/stage2", "before.parquet after.parquet --margin 0.01 --json"],
    )
    parser.add_argument("reference", type=Path, metavar="A", help="evaluated policy: a folder or one Parquet file")
    parser.add_argument("candidate", type=Path, metavar="B", help="another policy, on the same questions")
    parser.add_argument(
        "--benchmark", action="append", default=[], metavar="NAME", help="only this benchmark (repeatable)"
    )
    parser.add_argument("--margin", type=float, help="overrides regression.margin")
    parser.add_argument("--confidence", type=float, help="overrides regression.confidence")
    parser.add_argument("--even-so", action="store_true", help="compare even if the protocol cards differ")
    parser.add_argument("--strict", action="store_true", help="also fail if the verdict is 'cannot tell'")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write a summary for a pull request")
    _add_params(parser)
    return parser


def add_judge_command(commands: Any) -> argparse.ArgumentParser:
    """``judge``."""
    parser = _command(
        commands,
        "judge",
        "let a language model judge answers (ACC_L)",
        "Ask the language model that `judge` in params.yaml names which answers mean the same as the gold answers. "
        "Recorded replies are reused. If some answers get no reply, the rest are judged and the exit status is 2.",
        ["data/evaluation/stage2", "transcripts.jsonl --json"],
    )
    parser.add_argument(
        "places",
        type=Path,
        nargs="*",
        metavar="PLACE",
        help="evaluated policies (folders, .parquet) or transcripts (.jsonl); default: all policies in params.yaml",
    )
    parser.add_argument("--record", type=Path, default=_RECORD, help="record of the judge's replies")
    _add_evaluations(parser)
    parser.add_argument(
        "--out",
        type=free_place,
        default=Path("data/judge"),
        help="output folder; one Parquet file of verdicts per judged file",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    _add_params(parser)
    return parser
