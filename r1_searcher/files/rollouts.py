"""Read rollouts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from r1_searcher.files.artefacts import read_table, reading
from r1_searcher.types.schemas import rollouts_schema


def read_rollouts(path: Path | str) -> pa.Table:
    """Read a rollouts.parquet: a row per trajectory, with the columns of ``ROLLOUTS``, plus ``TOOLS_FIELD`` if present.

    Raises ``PipelineError`` for a file that is missing, not Parquet or lacks a column.
    """
    with reading(path):
        names = pq.read_schema(path).names
    return read_table(path, rollouts_schema(names))
