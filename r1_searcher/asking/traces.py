"""Traces: the trajectories of asked questions as a rollouts file, which the browser opens."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from r1_searcher.asking.asker import Asked
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.types import schemas

_ID = "asked-"  # what question ids begin with


def check_trace(file: Path) -> None:
    """Raise ``PipelineError`` unless a trace can be written there: before a question is answered, not after.

    An earlier trace is replaced; no other file is.
    """
    fix = "choose another --trace"
    if file.exists() and not _is_trace(file):
        raise PipelineError("is there already, and is no trace", where=str(file), fix=fix)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise PipelineError(f"cannot be written: {error.strerror}", where=str(file), fix=fix) from None


def write_trace(file: Path, asked: Sequence[Asked]) -> None:
    """Write the trajectories of all questions so far, numbered in their order."""
    rows = pa.concat_tables([one.rollouts for one in asked])
    ids = [f"{_ID}{number}" for number in range(len(asked))]
    for name, values in (("question_id", ids), ("trajectory_id", [f"{one}#0" for one in ids])):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, pa.string()))
    write_table(file, rows)


def _is_trace(file: Path) -> bool:
    try:
        ids = read_table(file, schemas.ROLLOUTS)["question_id"].to_pylist()
    except (PipelineError, OSError):
        return False
    return all(str(one).startswith(_ID) for one in ids)
