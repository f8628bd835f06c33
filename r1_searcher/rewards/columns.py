"""The columns of rewards.parquet: those of every reward set, plus one per further component of the chosen set, plus
the calls of each tool if the policy had more tools than search."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from r1_searcher.files.artefacts import read_table, reading
from r1_searcher.types.schemas import REWARDS

PREFIX = "component_"  # of a further component's column, and of its mean in the curves
CALLS = "calls_"  # of a further tool's calls that were carried out, and of their mean
FAILED = "failed_"  # of any tool's calls that failed, and of the share of trajectories that they lost


def further(names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that are columns of further components, in order."""
    return [name for name in names if name.startswith(PREFIX)]


def calls_in(names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that count a further tool's calls, in their order."""
    return [name for name in names if name.startswith(CALLS)]


def mean_calls_in(figures: Iterable[str]) -> list[str]:
    """Return the names of a benchmark's figures that are a further tool's mean calls; each has an interval."""
    names = set(figures)
    return sorted(name for name in calls_in(names) if f"{name}_ci" in names)


def failed_in(names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that count a tool's failed calls, in their order."""
    return [name for name in names if name.startswith(FAILED)]


def schema_of(names: Iterable[str]) -> pa.Schema:
    """Return ``REWARDS`` plus the further components and the tools' calls among the columns ``names``."""
    names = list(names)
    counts = [(name, pa.int32()) for name in (*calls_in(names), *failed_in(names))]
    return pa.schema([*REWARDS, *((name, pa.float64()) for name in further(names)), *counts])


def read_rewards(path: Path | str) -> pa.Table:
    """Read rewards with all components. Raises ``PipelineError`` for missing or mistyped columns, as ``read_table``."""
    with reading(path):
        names = pq.read_schema(path).names
    return read_table(path, schema_of(names))
