"""`export questions` and `export rollouts`: in the forms of other programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.shown import show


@dataclass(frozen=True)
class DataExport:
    """One sub-command: ``add`` gives its options to a parser, ``run`` does it."""

    about: str
    example: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def _add_forms(part: argparse.ArgumentParser, hub: str, verl: str, trl: str) -> None:
    part.add_argument("--form", choices=["hub", "verl", "trl"], required=True, help=f"{hub}; {verl}; {trl}")
    part.add_argument("--conversational", action="store_true", help="with trl: messages instead of texts")
    part.add_argument("--split", default="train", help="the split's name (default: %(default)s)")
    part.add_argument(
        "--out",
        type=free_place,
        required=True,
        metavar="PATH",
        help="what to write: a folder with hub, otherwise a file",
    )


def _add_questions(part: argparse.ArgumentParser) -> None:
    part.add_argument("file", type=Path, help="questions, e.g. data/questions/train.parquet, or any known layout")
    _add_forms(part, "hub: a dataset folder with a card", "verl: a Parquet file", "trl: a Parquet file with prompts")
    part.add_argument(
        "--params", type=Path, default=contract.PARAMS_FILE, metavar="FILE", help="parameters with the prompt"
    )


def _questions(options: argparse.Namespace) -> None:
    from r1_searcher.files.artefacts import write_table
    from r1_searcher.forms import dataset_folder
    from r1_searcher.forms.questions import to_trl, to_verl
    from r1_searcher.questions.files import read_questions
    from r1_searcher.rollout.prompt import prompt_of

    questions = read_questions(options.file)
    if options.form == "hub":
        dataset_folder.write(options.out, "questions", options.split, [("0000", questions, _metadata(options.file))])
    else:
        prompt = prompt_of(contract.load_or_shipped(options.params).rollout)
        if options.form == "verl":
            write_table(options.out, to_verl(questions, prompt, options.split))
        else:
            write_table(options.out, to_trl(questions, prompt, conversational=options.conversational))
    show(f"{questions.num_rows:,} questions in {options.out}")


def _add_rollouts(part: argparse.ArgumentParser) -> None:
    part.add_argument("paths", nargs="+", type=Path, help="files or folders of rollouts")
    _add_forms(
        part,
        "hub: a dataset folder with a card",
        "verl: JSON lines as in its rollout_data_dir",
        "trl: a Parquet file of prompts and completions",
    )
    part.add_argument(
        "--rewards",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="with verl or trl: the rewards of these rollouts, files or folders",
    )


def _rollouts(options: argparse.Namespace) -> None:
    import pyarrow as pa

    from r1_searcher.files.artefacts import write_table, write_text
    from r1_searcher.files.rollouts import read_rollouts
    from r1_searcher.forms import dataset_folder
    from r1_searcher.forms.rollouts import to_trl, to_verl
    from r1_searcher.rewards.columns import read_rewards

    files = _files(options.paths)
    tables = [read_rollouts(file) for file in files]
    rewarded = [read_rewards(file).select(["trajectory_id", "total"]) for file in _files(options.rewards)]
    rewards = pa.concat_tables(rewarded) if rewarded else None
    if options.form == "hub":
        if rewards is not None:
            raise PipelineError(
                "with --form hub the files are copied unchanged, so rewards cannot be added",
                where="--rewards",
                fix="export them for verl or trl",
            )
        named = [
            (f"{number:04d}", table, _metadata(file))
            for number, (file, table) in enumerate(zip(files, tables, strict=True))
        ]
        dataset_folder.write(options.out, "rollouts", options.split, named)
    elif options.form == "verl":
        rows = [row for step, table in enumerate(tables, 1) for row in to_verl(table, rewards, step)]
        write_text(options.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        whole = pa.concat_tables(tables)
        write_table(options.out, to_trl(whole, rewards, conversational=options.conversational))
    show(f"{sum(table.num_rows for table in tables):,} trajectories in {options.out}")


def _files(paths: Sequence[Path]) -> list[Path]:
    found = [file for path in paths for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]
    if paths and not found:
        raise PipelineError("no *.parquet in this folder", where=", ".join(map(str, paths)))
    return found


def _metadata(file: Path) -> dict[str, Any]:
    from r1_searcher.files.artefacts import read_metadata

    return read_metadata(file) if file.suffix == ".parquet" else {}


DATA_EXPORTS = {
    "questions": DataExport(
        "write questions as a Hugging Face dataset, for verl or for TRL",
        "data/questions/train.parquet --form verl --out verl/train.parquet",
        _add_questions,
        _questions,
    ),
    "rollouts": DataExport(
        "write rollouts as a Hugging Face dataset, for verl or for TRL",
        "data/train/s2-00/rollouts --form hub --out own/rollouts",
        _add_rollouts,
        _rollouts,
    ),
}
