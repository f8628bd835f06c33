"""Read the report's inputs, each whole or with a one-line error, and record where every figure came from."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_json, read_metadata, read_table, sha256_file
from r1_searcher.files.rollouts import read_rollouts
from r1_searcher.params import Params
from r1_searcher.rewards.columns import read_rewards
from r1_searcher.types.schemas import ADVANTAGES, EVALUATION

NAMES = ("iteration", "stage", "segment")  # columns of the curves that are not figures
_CURVES = ("reward", "response_length", "searches", "format_rate", "f1", "cover_em")

TableRow = dict[str, Any]


@dataclass(frozen=True)
class IterationFigures:
    """One row of the curves: its number over all segments, its stage, and every measured figure."""

    number: int
    stage: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Moment:
    """One iteration's trajectories: rows of ROLLOUTS with ``reward`` and ``advantages``."""

    segment: str
    stage: str
    iteration: str  # the file's stem: counted within the segment, from 0
    rows: list[TableRow]


@dataclass
class Sources:
    """The files read, in order: path, sha256, and purpose."""

    read: list[tuple[str, str, str]] = field(default_factory=list)

    def note(self, path: Path, purpose: str) -> Path:
        """Record ``path``, which must exist, and return it."""
        if not path.is_file():
            raise PipelineError("no such file", where=str(path), fix="run `dvc repro`, which makes it")
        self.read.append((path.as_posix(), sha256_file(path), purpose))
        return path


@dataclass(frozen=True)
class Inputs:
    """Everything that the page shows."""

    params: Params
    params_text: str
    summary: dict[str, dict[str, dict[str, Any]]]
    curves: list[IterationFigures]
    evaluated: dict[str, dict[str, list[TableRow]]]  # policy → benchmark → rows
    cards: dict[str, dict[str, dict[str, Any]]]  # policy → benchmark → protocol card
    moments: list[Moment]
    measured: dict[str, dict[str, Any]]  # name → metrics/base_model.json, audit.json, train/*.json
    sources: list[tuple[str, str, str]]


def read_curves(path: Path) -> list[IterationFigures]:
    """Return the rows of one segment's curve file; an empty cell is a figure that was not measured."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in ("iteration", "stage", *_CURVES) if name not in (reader.fieldnames or ())]
        if missing:
            raise PipelineError(f"column {missing[0]!r} is missing", where=str(path), fix="train this segment again")
        rows = []
        for line, cells in enumerate(reader, 2):
            try:
                number = int(cells["iteration"])
                figures = {name: float(cell) for name, cell in cells.items() if cell and name not in NAMES}
            except (TypeError, ValueError) as error:
                raise PipelineError(f"not a figure: {error}", where=f"{path}, line {line}") from None
            rows.append(IterationFigures(number, cells["stage"], figures))
    if not rows:
        raise PipelineError("contains no iteration", where=str(path), fix="train this segment again")
    return rows


def read_moment(folder: Path, segment: str, stage: str, place: int, sources: Sources) -> Moment:
    """Return a segment's first (``place`` 0) or last (−1) iteration, with rewards and advantages joined by
    trajectory."""
    files = sorted((folder / "rollouts").glob("*.parquet"))
    if not files:
        raise PipelineError("no rollouts here", where=str(folder / "rollouts"), fix="run `dvc repro` or `dvc checkout`")
    file = files[place]
    rollouts = read_rollouts(sources.note(file, "training trajectories")).to_pylist()
    joined: dict[str, dict[str, TableRow]] = {}
    for kind in ("rewards", "advantages"):
        path = sources.note(folder / kind / file.name, f"{kind} of these trajectories")
        table = read_rewards(path) if kind == "rewards" else read_table(path, ADVANTAGES)
        joined[kind] = {row["trajectory_id"]: row for row in table.to_pylist()}
    rows = []
    for row in rollouts:
        name = row["trajectory_id"]
        if name not in joined["rewards"]:
            raise PipelineError(f"no reward for trajectory {name!r}", where=str(folder / "rewards" / file.name))
        advantages = joined["advantages"].get(name)  # absent: left out of training
        rows.append({**row, "reward": joined["rewards"][name], "advantages": advantages and advantages["advantages"]})
    return Moment(segment, stage, file.stem, rows)


def _moments(params: Params, train: Path, sources: Sources) -> list[Moment]:
    """Return the beginning of training and the end of each stage."""
    names = list(params.train.segments)
    wanted = [(names[0], 0)]
    for place, name in enumerate(names):
        last = place + 1 == len(names)
        if last or params.train.segments[names[place + 1]].stage != params.train.segments[name].stage:
            wanted.append((name, -1))
    return [
        read_moment(train / name, name, params.train.segments[name].stage, place, sources) for name, place in wanted
    ]


def read_inputs(
    *,
    params: Params,
    params_file: Path,
    metrics: Path,
    plots: Path,
    evaluation: Path,
    benchmark_evaluation: Path,
    train: Path,
) -> Inputs:
    """Read all files under these folders.

    Raises ``PipelineError`` that names the first one missing, and if a policy of the summary has no evaluation folder.
    """
    sources = Sources()
    summary = read_json(sources.note(metrics / "evaluation.json", "headline figures, evaluation tables"))
    if not summary:
        raise PipelineError("contains no policy", where=str(metrics / "evaluation.json"), fix="run `dvc repro summary`")
    curves = []
    for name in params.train.segments:
        curves += read_curves(sources.note(plots / f"{name}.csv", "curves"))
    evaluated: dict[str, dict[str, list[TableRow]]] = {}
    cards: dict[str, dict[str, dict[str, Any]]] = {}
    for policy, benchmarks in summary.items():
        for benchmark in benchmarks:
            external = benchmark in params.benchmarks.sets
            folder = benchmark_evaluation / benchmark if external else evaluation
            path = folder / policy / f"{benchmark}.parquet"
            sources.note(path, "answers question by question, protocol card")
            table = read_table(path)
            for column in EVALUATION.names:
                if column not in table.column_names:
                    raise PipelineError(f"column {column!r} is missing", where=str(path))
            evaluated.setdefault(policy, {})[benchmark] = table.to_pylist()
            cards.setdefault(policy, {})[benchmark] = read_metadata(path).get("card", {})
    measured = {"base_model": read_json(sources.note(metrics / "base_model.json", "the base policy before RL"))}
    if (metrics / "audit.json").exists():
        measured["audit"] = read_json(sources.note(metrics / "audit.json", "leakage and coverage of the questions"))
    for name in params.train.segments:
        path = sources.note(metrics / "train" / f"{name}.json", "the segment's last iteration")
        measured[name] = read_json(path)
    moments = _moments(params, train, sources)
    params_text = sources.note(params_file, "parameters").read_text(encoding="utf-8")
    return Inputs(
        params=params,
        params_text=params_text,
        summary=summary,
        curves=sorted(curves, key=lambda row: row.number),
        evaluated=evaluated,
        cards=cards,
        moments=moments,
        measured=measured,
        sources=sources.read,
    )
