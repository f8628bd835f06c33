"""What a tracker is given, and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers show it: one training segment.

    Attributes:
        id: the same for a resumed run, another for other parameters; letters, digits and dashes.
        name: for people: the profile and the segment.
        group: what the segments of one training run share: the profile and the seed.
        project: ``tracking.project``.
        folder: where a tracker may write files.
        params: all parameters, nested as in params.yaml.
        card: the protocol card of the run's validations.
        logged: the last step that this tracker already has; None at the beginning.
    """

    id: str
    name: str
    group: str
    project: str
    folder: Path
    params: Mapping[str, Any]
    card: Mapping[str, Any]
    logged: int | None = None


class Tracker(Protocol):
    """An open run of a tracker. It may raise anything: its process ends, and training goes on."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log one iteration's figures under the names of plots/curves.csv. ``step``: the iteration, counted over all
        segments from 1; each is logged once, in order."""

    def close(self) -> None:
        """Write what is left; the run has ended, or will be resumed by another process."""
