"""The process of one tracker: follows a segment's journal until standard input ends.

    python -m r1_searcher.tracking.worker FOLDER TRACKER

Started by ``r1_searcher.tracking.journal``; what it prints goes into ``FOLDER/TRACKER.log``.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError, command
from r1_searcher.extensions import bind_parameters, shipped
from r1_searcher.files.artefacts import fingerprint, read_json, write_json
from r1_searcher.params import TrackingParams
from r1_searcher.points import TRACKERS
from r1_searcher.tracking.journal import JOURNAL, RUN_FILE, rows_of
from r1_searcher.tracking.protocol import TrackedRun, Tracker

_LOOK_SECONDS = 0.5
_MOST_SECONDS_AT_THE_END = 600  # a server that never answers does not keep this process for ever


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    folder, name = sys.argv[1:] if arguments is None else arguments
    follow(Path(folder), name)


def follow(folder: Path, name: str) -> None:
    """Log the journal's rows in ``folder`` with the tracker ``name``, from the first that it does not have."""
    raw = read_json(folder / RUN_FILE)
    settings = TrackingParams.model_validate({**raw["params"]["tracking"], "extensions": tuple(raw["extensions"])})
    own = settings.own.get(name)
    # Another project or server has none of the rows yet.
    there = folder / f"{name}-{fingerprint([settings.project, settings.folder, own])[:8]}.json"
    with open(there.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier run's process may still be writing
        last: int | None = read_json(there)["logged"] if there.exists() else None
        run = TrackedRun(
            id=raw["id"],
            name=raw["name"],
            group=raw["group"],
            project=settings.project,
            folder=Path(settings.folder),
            params=raw["params"],
            card=raw["card"],
            logged=last,
        )
        opened = open_tracker(settings, name, run)
        for step, figures in _rows(folder / JOURNAL):
            if last is None or step > last:
                opened.log(step, figures)
                last = step
                write_json(there, {"logged": last})
        opened.close()


def open_tracker(settings: TrackingParams, name: str, run: TrackedRun) -> Tracker:
    """Open a run with the tracker ``name``. Raises ``PipelineError`` if its package is missing."""
    found = settings.found("trackers", name)
    call = bind_parameters(found, settings.parameters_of("trackers", name), TRACKERS.noun)
    try:
        opened: Tracker = call(run)
    except ModuleNotFoundError as error:
        if not shipped(found.file):
            raise
        raise PipelineError(
            f"{(error.name or name).partition('.')[0]} is not installed",
            where="tracking.trackers",
            fix="make setup-doors, or the extra trackers",
        ) from None
    return opened


def _rows(journal: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the journal's rows as they are written, until standard input ends and none is left."""
    open_still = True
    with open(journal, encoding="utf-8") as file:
        rest = ""
        while True:
            rest += file.read()
            whole, _, rest = rest.rpartition("\n")
            yield from rows_of(whole.splitlines())
            if not open_still:
                return
            if select.select([sys.stdin], [], [], _LOOK_SECONDS)[0] and not os.read(sys.stdin.fileno(), 1):
                open_still = False
                signal.alarm(_MOST_SECONDS_AT_THE_END)


if __name__ == "__main__":
    raise SystemExit(main())
