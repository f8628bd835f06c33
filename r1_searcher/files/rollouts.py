"""Rollouts as a file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from r1_searcher.files.artefacts import read_table
from r1_searcher.types.schemas import ROLLOUTS


def read_rollouts(path: Path | str) -> pa.Table:
    """A rollouts.parquet: a row per trajectory, with the columns of ``ROLLOUTS``.

    Raises ``PipelineError`` for a file that is not there, is no Parquet file or lacks a column.
    """
    return read_table(path, ROLLOUTS)
