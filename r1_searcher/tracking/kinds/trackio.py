"""Trackio: a SQLite database per project in ``FOLDER/trackio``, for `trackio show`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from r1_searcher.extend import tracker
from r1_searcher.tracking.protocol import TrackedRun, Tracker


@tracker("trackio")
def trackio(run: TrackedRun) -> Tracker:
    """Start or resume the run; parameters and protocol card are its config."""
    return _Trackio(run)


class _Trackio:
    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(run.folder.absolute() / "trackio"))  # read at import
        import trackio

        self.run: Any = trackio.init(
            project=run.project,
            name=f"{run.name} {run.id[-6:]}",
            group=run.group,
            config={"params": run.params, "protocol_card": run.card},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        last = self.run._safe_get_max_step_for_run()  # of a killed process, which may not have said so
        self.there = -1 if last is None else last

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if step > self.there:
            self.run.log(dict(figures), step=step)

    def close(self) -> None:
        self.run.finish()
