"""The columns of rewards.parquet: those of every reward set, and one for each further component of the chosen set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from r1_searcher.files.artefacts import read_table, reading
from r1_searcher.types.schemas import REWARDS

PREFIX = "component_"  # of a further component's column, and of its mean in the curves


def further(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are columns of further components, in their order."""
    return [name for name in names if name.startswith(PREFIX)]


def schema_of(names: Iterable[str]) -> pa.Schema:
    """``REWARDS``, and the further components among the columns ``names``."""
    return pa.schema([*REWARDS, *((name, pa.float64()) for name in further(names))])


def read_rewards(path: Path | str) -> pa.Table:
    """Rewards with all their components; what is missing or mistyped stops with its name, as in ``read_table``."""
    with reading(path):
        names = pq.read_schema(path).names
    return read_table(path, schema_of(names))
