"""Make the questions (`python -m stages.questions`), audit them, label their difficulty, draw a training mix."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError, command
from r1_searcher.files import sums
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.shown import show

_QUESTIONS = Path("data/questions")
_INDEX = Path("data/index")
METRICS = Path("metrics/audit.json")
CLOSED_BOOK = Path("data/audit/closed_book.json")


@command
def main(argv: list[str] | None = None) -> None:
    """Read the command line and params.yaml, and do what they say."""
    options = _parser().parse_args(argv)
    settings = params.load(options.params)
    {None: _make, "audit": _audit, "difficulty": _difficulty, "mix": _mix}[options.command](options, settings)


def _make(options: argparse.Namespace, settings: params.Params) -> None:
    if options.questions != _QUESTIONS:  # which is DVC's own
        sums.check_replaceable(options.questions)
    from r1_searcher.params.segments import least_questions
    from stages.questions.run import run

    least = least_questions(settings.train)
    report = run(settings.questions, settings.seed, options.corpus, options.questions, least=least)
    sizes = ", ".join(f"{split['num_questions']:,} {name}" for name, split in report["splits"].items())
    show(f"questions: {sizes} -> {options.questions}")
    for name, split in report["splits"].items():
        if number := split.get("num_neutralised"):
            show(f"note: tags or control tokens in {number:,} questions of {name} were neutralised, as in passages")
        if number := split.get("num_exact_golds"):
            show(f"note: {number:,} gold answers of {name} normalise to nothing (such as 'A'): compared exactly")
    for line in overlap_lines(report):
        show(line)


def overlap_lines(report: dict[str, Any]) -> list[str]:
    """Return one line per split that shares questions or supporting titles with training; none if all are disjoint."""
    lines = []
    for name, shared in report["overlap_with_train"].items():
        if shared["same_question"] or shared["same_title"]:
            titles = f", {shared['same_title']:,} share a supporting title" if shared["same_title"] else ""
            lines.append(
                f"note: of the {shared['num_questions']:,} questions of {name}, {shared['same_question']:,} "
                f"are asked in training too{titles}"
            )
    return lines


def _audit(options: argparse.Namespace, settings: params.Params) -> None:
    from r1_searcher.questions import audit

    if options.policy is not None:
        _closed_book(options, settings)
        return
    policy = options.tokenizer if options.tokenizer.is_dir() else None
    if options.benchmark is not None:
        report = audit.run_benchmark(settings, options.questions, options.benchmark, options.metrics, policy=policy)
    else:
        index = None if options.overlap_only else options.index
        report = audit.run(settings, options.questions, index, options.metrics, options.verdict, policy=policy)
    if policy is None and "coverage" in report:
        show(f"note: passages were not cut, because there is no policy with a tokenizer in {options.tokenizer}")
    for line in audit.lines(report):
        show(line)


def _closed_book(options: argparse.Namespace, settings: params.Params) -> None:
    from r1_searcher.files.artefacts import write_json
    from r1_searcher.questions.audit import read_splits
    from r1_searcher.questions.closed_book import closed_book, open_policy

    if not options.policy.is_dir():
        raise PipelineError("no such model folder", where=str(options.policy), fix="give the folder of a policy")
    splits = read_splits(options.questions)
    engine = open_policy(options.policy, settings)

    def say(name: str, found: dict[str, float]) -> None:
        show(
            f"{name}: of {found['num_questions']:,} questions {found['cover_em']:.1%} are answered without a search "
            f"(Cover-EM; EM {found['em']:.1%})"
        )

    report = closed_book(engine, splits, settings.rollout, number=settings.audit.questions, told=say)
    write_json(options.closed_book, report)


def _difficulty(options: argparse.Namespace, settings: params.Params) -> None:
    from r1_searcher.questions.difficulty import run

    def say(line: str) -> None:
        show(f"difficulty: {line}")

    found = run(
        options.questions,
        settings,
        policy=options.policy,
        index=options.index,
        out=options.out,
        samples=options.samples or settings.difficulty.samples,
        say=say,
    )
    for dataset, cells in found.items():
        say(f"{dataset}: {', '.join(f'{number:,} {name}' for name, number in cells.items())}")
    say(f"-> {options.out}")


def _mix(options: argparse.Namespace, settings: params.Params) -> None:
    from r1_searcher.questions.mix import run

    out = options.out or Path("data/mixes") / f"{options.name}.parquet"
    show(f"mix {options.name}: {run(options.name, settings, out).num_rows:,} questions -> {out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.questions",
        description="Write one Parquet file per split, and report.json. `questions` in the parameters selects the "
        "source: the corpus' facts, or files with question and answer (.jsonl, .json, .tsv, .parquet).",
        epilog="audit, difficulty and mix each have their own --help",
    )
    parser.add_argument(
        "--params", type=Path, default=params.PARAMS_FILE, metavar="FILE", help="parameters (default: %(default)s)"
    )
    _path(parser, "--corpus", Path("data/corpus"), "folder with facts.parquet, for source: world")
    _path(parser, "--questions", _QUESTIONS, "output folder")
    commands = parser.add_subparsers(
        dest="command", metavar="audit | difficulty | mix", title="commands other than making the questions"
    )

    audit = commands.add_parser(
        "audit",
        help="measure leakage into the evaluation, and the share of questions that search can answer",
        description="Measure the overlap of training with the other splits, and the share of questions that search can "
        "answer. With --policy, measure instead what that policy answers without search.",
    )
    _path(audit, "--questions", _QUESTIONS, "folder with one Parquet file per split")
    _path(audit, "--index", _INDEX, "folder of the index")
    _path(audit, "--tokenizer", Path("data/base_model"), "policy whose tokenizer cuts passages; without it none is cut")
    _path(audit, "--metrics", METRICS, "output file of figures and findings")
    _path(audit, "--verdict", Path("data/audit/verdict.json"), "output file; written only if training may begin")
    audit.add_argument("--overlap-only", action="store_true", help="measure leakage only; needs no index")
    audit.add_argument(
        "--benchmark",
        type=Path,
        metavar="FOLDER",
        help="audit this benchmark in data/benchmarks instead of the corpus' questions",
    )
    audit.add_argument("--policy", type=Path, metavar="FOLDER", help="measure this policy closed-book instead")
    _path(audit, "--closed-book", CLOSED_BOOK, "output file with --policy")

    difficulty = commands.add_parser(
        "difficulty",
        help="label questions by how often a policy answers them correctly",
        description="Sample several rollouts per question, count the correct ones, and write the questions with "
        "num_rollouts, num_passes and difficulty. A stopped run resumes.",
    )
    difficulty.add_argument("--policy", type=Path, required=True, metavar="FOLDER", help="policy folder")
    _path(difficulty, "--questions", _QUESTIONS / "train.parquet", "questions to label")
    _path(difficulty, "--index", _INDEX, "folder of the index")
    difficulty.add_argument("--out", type=free_place, required=True, metavar="FILE", help="Parquet file to write")
    difficulty.add_argument(
        "--samples", type=int, metavar="N", help="rollouts per question (default: difficulty.samples)"
    )

    mix = commands.add_parser(
        "mix", help="draw a training mix", description="Draw a training mix defined in difficulty.mixes."
    )
    mix.add_argument("name", help="a key of difficulty.mixes")
    mix.add_argument("--out", type=free_place, metavar="FILE", help="default: data/mixes/NAME.parquet")
    for sub in (audit, difficulty, mix):  # suppressed, or it would overwrite a --params before the command
        sub.add_argument("--params", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="parameters")
    return parser


def _path(parser: argparse.ArgumentParser, name: str, default: Path, text: str) -> None:
    kind = "FILE" if default.suffix else "FOLDER"
    parser.add_argument(name, type=Path, default=default, metavar=kind, help=f"{text} (default: %(default)s)")


if __name__ == "__main__":
    raise SystemExit(main())
