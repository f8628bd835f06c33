"""The columns of rewards.parquet: those of every reward set, plus one per further component of the chosen set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from r1_searcher.files.artefacts import read_table, reading
from r1_searcher.types.schemas import REWARDS

PREFIX = "component_"  # of a further component's column, and of its mean in the curves


def further(names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that are columns of further components, in order."""
    return [name for name in names if name.startswith(PREFIX)]


def schema_of(names: Iterable[str]) -> pa.Schema:
    """Return ``REWARDS`` plus the further components among the columns ``names``."""
    return pa.schema([*REWARDS, *((name, pa.float64()) for name in further(names))])


def read_rewards(path: Path | str) -> pa.Table:
    """Read rewards with all components. Raises ``PipelineError`` for missing or mistyped columns, as ``read_table``."""
    with reading(path):
        names = pq.read_schema(path).names
    return read_table(path, schema_of(names))
