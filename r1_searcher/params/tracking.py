"""``tracking``: where a training run is shown besides DVC's curves."""

from __future__ import annotations

from typing import ClassVar

from r1_searcher.names import Name, PathText
from r1_searcher.params.chosen import Extensible
from r1_searcher.points import TRACKERS


class TrackingParams(Extensible):
    """Trackers by name (docs/trackers.md). Nothing that is made depends on this section."""

    points: ClassVar = {"trackers": TRACKERS}
    section: ClassVar = "tracking"
    changes_results: ClassVar = False

    trackers: list[str]
    project: Name  # under which name trackers show the runs
    folder: PathText  # files of the trackers that write here
