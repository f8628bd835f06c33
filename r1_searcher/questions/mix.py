"""A stage's training mix: numbers of questions by dataset and difficulty (paper, section 4.1, table 1)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.params import Level, Mix, Params
from r1_searcher.types import schemas

Cell = tuple[str, str]  # dataset, difficulty
Counts = Mapping[str, Mapping[Level, int]]


def draw(pool: pa.Table, counts: Counts, *, seed: int, name: str) -> pa.Table:
    """Return rows of ``pool`` (QUESTIONS): ``counts[dataset][difficulty]`` of each cell, in an order drawn by (seed,
    name).

    A question's rank depends only on (seed, name, its id): the pool's order does not matter, and a larger count adds
    questions to those of a smaller one. Raises ``PipelineError`` naming every cell with too few questions, and for an
    id that occurs twice.
    """
    rows: dict[Cell, list[tuple[str, int]]] = defaultdict(list)  # (rank, row)
    ids = pool["question_id"].to_pylist()
    cells = zip(pool["dataset"].to_pylist(), pool["difficulty"].to_pylist(), strict=True)
    for number, cell in enumerate(cells):
        rows[cell].append((_rank(seed, name, ids[number]), number))
    _check(ids, rows, counts, name)
    chosen = [
        one
        for dataset, wanted in counts.items()
        for difficulty, number in wanted.items()
        for one in sorted(rows[dataset, difficulty])[:number]
    ]
    return pool.take([number for _, number in sorted(chosen)])


def _rank(seed: int, name: str, question_id: str) -> str:
    return hashlib.sha256(f"{seed}/{name}/{question_id}".encode()).hexdigest()


def _check(ids: list[str], rows: Mapping[Cell, list[tuple[str, int]]], counts: Counts, name: str) -> None:
    place = f"params.yaml, difficulty.mixes.{name}"
    if len(set(ids)) != len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise PipelineError(f"question id {twice!r} occurs twice", where=place, fix="give every question its own id")
    datasets = sorted({dataset for dataset, _ in rows})
    unknown = [dataset for dataset in counts if dataset not in datasets]
    if unknown:
        raise PipelineError(
            f"no question of dataset {unknown[0]!r}", where=f"{place}.counts", fix=f"known here: {', '.join(datasets)}"
        )
    few = [
        f"{dataset} {difficulty}: {len(rows.get((dataset, difficulty), []))} of {number}"
        for dataset, wanted in counts.items()
        for difficulty, number in wanted.items()
        if len(rows.get((dataset, difficulty), [])) < number
    ]
    if few:
        raise PipelineError(
            f"too few questions for {'; '.join(few)}", where=f"{place}.counts", fix="ask for fewer, or label more"
        )
    if not any(number for wanted in counts.values() for number in wanted.values()):
        raise PipelineError("asks for no question", where=f"{place}.counts")


def read_pool(path: Path) -> pa.Table:
    """Return the questions of a Parquet file, or of all Parquet files of a folder."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise PipelineError("no question file here", where=str(path))
    tables = [artefacts.read_table(file, schemas.QUESTIONS).replace_schema_metadata(None) for file in files]
    return pa.concat_tables(tables)


def run(name: str, settings: Params, out: Path) -> pa.Table:
    """Draw the mix ``name`` of the parameters, write it to ``out``, and return it."""
    mixes = settings.difficulty.mixes
    if name not in mixes:
        known = ", ".join(mixes) or "none"
        raise PipelineError(f"no mix {name!r}", where="params.yaml, difficulty.mixes", fix=f"known: {known}")
    mix: Mix = mixes[name]
    drawn = draw(read_pool(Path(mix.questions)), mix.counts, seed=settings.seed, name=name)
    with sums.checksum_after(out):
        artefacts.write_table(out, drawn, {"mix": name, "counts": mix.model_dump()["counts"], "seed": settings.seed})
    return drawn
