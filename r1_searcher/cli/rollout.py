"""`rollout`: trajectories of a policy on questions, from files to a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError, command
from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.options import HelpFormatter, examples, whole_number
from r1_searcher.progress import Paced
from r1_searcher.shown import show
from r1_searcher.transcripts.grammar import MODES
from r1_searcher.types import schemas


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher rollout") -> None:
    """Parse the command line, roll out, write rollouts.parquet."""
    _run(parser(prog).parse_args(arguments))


def parser(prog: str = "r1-searcher rollout") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Sample trajectories of a policy on questions and write them as rollouts.parquet.",
        epilog=examples(
            prog,
            "--limit 20 --greedy --out rollouts.parquet",
            "--policy data/train/s1-00/policy --samples 8 --out rollouts.parquet",
        ),
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--policy", type=Path, default=Path("data/base_model"), help="model folder (default: %(default)s)"
    )
    parser.add_argument(
        "--questions", type=Path, default=Path("data/questions/validation.parquet"), help="default: %(default)s"
    )
    parser.add_argument("--index", type=Path, default=Path("data/index"), help="index folder (default: %(default)s)")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path("data/corpus"),
        help="corpus of the index; an index of another corpus is refused",
    )
    parser.add_argument("--out", type=free_place, required=True, help="rollouts.parquet to write")
    parser.add_argument(
        "--samples", type=whole_number("--samples"), default=1, help="trajectories per question (default: %(default)s)"
    )
    parser.add_argument("--limit", type=whole_number("--limit"), metavar="N", help="use the first N questions only")
    parser.add_argument("--greedy", action="store_true", help="decode greedily (temperature 0)")
    parser.add_argument(
        "--mode", choices=MODES, default="search", help="as trained, or as a baseline (docs/baselines.md)"
    )
    parser.add_argument("--params", type=Path, default=params.PARAMS_FILE, help="parameters (default: %(default)s)")
    return parser


def _run(options: argparse.Namespace) -> None:
    settings = params.load_or_shipped(options.params)
    if not options.policy.is_dir():
        raise PipelineError(
            "no such model folder", where=str(options.policy), fix="make it with `dvc repro base_model`"
        )
    questions = read_table(options.questions, schemas.QUESTIONS).slice(0, options.limit)

    import torch

    from r1_searcher.retrieval import open_retriever
    from r1_searcher.rollout import load_engine, roll_out
    from r1_searcher.rollout.outages import outage_reasons
    from r1_searcher.rollout.rows import metadata

    torch.set_num_threads(settings.threads)
    retriever = open_retriever(settings, index=options.index, corpus=options.corpus)
    engine = load_engine(options.policy, settings.rollout)
    chosen: dict[str, Any] = {
        "samples": options.samples,
        "seed": settings.seed,
        "greedy": options.greedy,
        "mode": options.mode,
    }
    with Paced("rollout", unit="trajectories") as paced:
        rollouts, timings = roll_out(engine, retriever, questions, settings.rollout, told=paced.told, **chosen)
    about = metadata(engine, retriever, options.policy, questions, settings.rollout, **chosen)
    write_table(options.out, rollouts, about)
    missing = len(outage_reasons(rollouts))
    if missing:
        show(f"{missing} of {len(rollouts)} trajectories were lost to the retriever (finish_reason retriever_error)")
    rate = timings["policy_tokens"] / timings["seconds"]
    show(f"{len(rollouts)} trajectories in {timings['seconds']:.1f} s, {rate:.0f} policy tokens/s → {options.out}")
