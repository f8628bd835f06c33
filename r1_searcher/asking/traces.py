"""Traces: the trajectories of asked questions as a rollouts file, which the browser opens."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa

from r1_searcher.asking.asker import Asked
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import write_table
from r1_searcher.files.rollouts import read_rollouts

_ID = "asked-"  # what question ids begin with


def check_trace(file: Path) -> None:
    """Raise ``PipelineError`` unless a trace can be written there: before a question is answered, not after.

    An earlier trace is added to; any other file is refused.
    """
    fix = "choose another --trace"
    if file.exists() and _trace(file) is None:
        raise PipelineError("already exists, and is not a trace", where=str(file), fix=fix)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise PipelineError(f"cannot be written: {error.strerror}", where=str(file), fix=fix) from None


def add_to_trace(file: Path, asked: Asked) -> int:
    """Add a question's trajectory to a trace, whose ids count from 0; return how many it now has."""
    earlier = _trace(file)
    tables = [asked.rollouts] if earlier is None else [earlier, asked.rollouts]
    rows = pa.concat_tables(tables, promote_options="default")  # a policy with further tools adds their column
    ids = [f"{_ID}{number}" for number in range(rows.num_rows)]
    for name, values in (("question_id", ids), ("trajectory_id", [f"{one}#0" for one in ids])):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, pa.string()))
    write_table(file, rows)
    return int(rows.num_rows)


def _trace(file: Path) -> pa.Table | None:
    """Return the trajectories of a trace; None if there is none."""
    try:
        rows = read_rollouts(file)
    except (PipelineError, OSError):
        return None
    return rows if all(str(one).startswith(_ID) for one in rows["question_id"].to_pylist()) else None
