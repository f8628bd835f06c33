"""`reward`: rewards.parquet from rollouts.parquet, or the rewards of transcript files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError, command
from r1_searcher.extensions import Point
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.points import ANSWER_METRICS, REWARD_SETS
from r1_searcher.rewards.files import score_files, summary
from r1_searcher.shown import json_text, show, show_lines
from r1_searcher.texts import parse_json
from r1_searcher.transcripts.scripts import ANY, PAPER, Scripts, checked

_CODE = (
    *(f"rewards/{name}.py" for name in ("case", "columns", "metrics", "rules", "scoring")),
    "transcripts/grammar.py",
    "transcripts/scripts.py",
)


def parser(prog: str = "r1-searcher reward") -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog=prog,
        description="Write rewards.parquet for a rollouts.parquet, or print the rewards of transcript files.",
        epilog=examples(
            prog,
            "--rollouts rollouts.parquet --stage 2 --out rewards.parquet",
            "score --set released-base --stage 2 transcripts.jsonl",
        ),
        formatter_class=HelpFormatter,
    )
    top.add_argument("--rollouts", type=Path, help="rollouts.parquet to reward")
    top.add_argument("--stage", type=int, choices=(1, 2), help="the recipe's stage")
    top.add_argument("--out", type=free_place, help="rewards.parquet to write")
    top.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        help="parameters: reward set and answer metric (default: %(default)s)",
    )
    verbs = top.add_subparsers(dest="verb", metavar="score")
    scoring = verbs.add_parser(
        "score",
        help="score transcript files in the release's format (JSON lines), or exported for verl or TRL",
        epilog=examples(
            prog,
            "score --set paper --stage 2 transcripts.jsonl",
            "score --set brevity --stage 2 --extension examples/own_reward.py --parameters '{\"per_word\": 0.02}' "
            "transcripts.jsonl",
        ),
        formatter_class=HelpFormatter,
    )
    scoring.add_argument("files", nargs="+", type=Path, metavar="FILE", help="transcript files")
    scoring.add_argument(
        "--set", required=True, dest="reward_set", metavar="NAME", help=f"one of {_known(REWARD_SETS)}, or your own"
    )
    scoring.add_argument("--stage", required=True, type=int, choices=(1, 2), help="the recipe's stage")
    scoring.add_argument(
        "--answer-metric",
        default="f1",
        metavar="NAME",
        help=f"for stage 2: one of {_known(ANSWER_METRICS)}, or your own (default: %(default)s)",
    )
    scoring.add_argument(
        "--extension",
        action="append",
        default=[],
        metavar="FILE",
        help="your own file that registers more names (repeatable)",
    )
    scoring.add_argument(
        "--parameters", default="{}", metavar="JSON", help='parameters of your own set, e.g. {"words": 5}'
    )
    scoring.add_argument(
        "--scripts",
        default=PAPER,
        metavar="NAMES",
        help="scripts that transcripts may be written in: paper (no Chinese characters), any, or e.g. Latin,Han "
        "(default: %(default)s)",
    )
    scoring.add_argument("--json", action="store_true", help="print every row as JSON")
    return top


def _known(point: Point) -> str:
    return ", ".join(point.names())


def _own(given: argparse.Namespace) -> dict[str, Any]:
    """The parameters of the set as they would stand in params.yaml under its name; empty if there are none."""
    try:
        found = parse_json(given.parameters)
    except json.JSONDecodeError as error:
        raise PipelineError(f"not JSON: {error}", where="--parameters") from None
    return {given.reward_set: found} if found else {}


def _scripts(given: str) -> Scripts:
    try:
        return checked(given if given in (PAPER, ANY) else given.split(","))
    except ValueError as error:
        raise PipelineError(str(error), where="--scripts") from None


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher reward") -> None:
    """Read the command line and run it."""
    top = parser(prog)
    given = top.parse_args(arguments)
    if given.verb == "score":
        scored = score_files(
            given.files,
            given.reward_set,
            given.stage,
            given.answer_metric,
            extensions=given.extension,
            own=_own(given),
            scripts=_scripts(given.scripts),
        )
        show_lines(json_text(scored, indent=None) if given.json else summary(scored))
        return
    missing = [f"--{name}" for name in ("rollouts", "stage", "out") if getattr(given, name) is None]
    if missing:
        top.error(f"the following arguments are required: {', '.join(missing)}")
    _reward_rollouts(given.rollouts, given.stage, given.out, given.params)


def _reward_rollouts(rollouts: Path, stage: int, out: Path, params_file: Path) -> None:
    import pyarrow.compute as pc

    from r1_searcher import params  # scoring transcript files needs neither Parquet nor pydantic
    from r1_searcher.files import artefacts  # scoring transcript files needs neither Parquet nor pydantic
    from r1_searcher.files.code import chosen_code
    from r1_searcher.files.rollouts import read_rollouts
    from r1_searcher.rewards.scoring import reward_table

    reward = params.load_or_shipped(params_file).reward
    table = reward_table(read_rollouts(rollouts), reward, stage)
    metadata = {
        "room": "rewards",
        "rollouts": artefacts.sha256_file(rollouts),
        "reward": reward.model_dump(),
        "stage": stage,
        "code": artefacts.code_fingerprint(*_CODE),
        "chosen": chosen_code(reward.chosen_files(), room="rewards"),
    }
    artefacts.write_table(out, table, metadata)
    means = ", ".join(f"{name} {pc.mean(table[name]).as_py():+.3f}" for name in ("total", "f1", "cover_em"))
    show(f"rewards of {table.num_rows:,} trajectories (means: {means}) -> {out}")
