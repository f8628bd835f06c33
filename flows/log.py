"""Output of a training flow: one line per iteration on the terminal; progress and a table in Prefect."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.tasks import TaskRunNameCallbackWithParameters

from flows.machine_load import BusyWatch, Usage
from r1_searcher import progress_events
from r1_searcher.files.artefacts import read_json, write_text
from r1_searcher.models.base_metrics import against_training
from r1_searcher.progress import Paced, nobody
from r1_searcher.shown import printable, show
from r1_searcher.tracking.journal import Tracking, figures_of
from r1_searcher.training import figures, page
from r1_searcher.training.curves import curves_csv
from r1_searcher.training.segment import Made
from r1_searcher.training.workbench import Workbench

AUDIT = Path("metrics/audit.json")
BASE_METRICS = Path("metrics/base_model.json")
_DRAWN = ("reward", "search_rate", "format_rate", "f1")  # what the terminal draws while it trains
LIVE_CURVES = Path("plots/live")  # of segments that are training now, for `dvc plots show` and editors


def audit_findings() -> list[str]:
    """Return the audit's findings, which appear only here if the audit itself is up to date."""
    if not AUDIT.exists():
        return []
    found = read_json(AUDIT)
    return [*found["findings"], *found.get("notes", [])]


def base_findings() -> list[str]:
    """Return warnings from the base policy's measurement against training it."""
    return against_training(read_json(BASE_METRICS)) if BASE_METRICS.exists() else []


def step_name(step: str = "") -> TaskRunNameCallbackWithParameters:
    """Return a function that names a step's runs for Prefect: profile, segment, step and iteration, counted as on the
    terminal. Without ``step`` it names shards, whose parameters include the step."""

    def name(parameters: dict[str, Any]) -> str:
        bench: Workbench = parameters["bench"]
        what, place = step, ""
        if not step:
            what, place = parameters["step"], f" shard {parameters['shard'] + 1}/{bench.params.workers.shards}"
            done = parameters["number"] + (what == "rollout")
        else:
            done = parameters["iteration"] + 1 if "iteration" in parameters else parameters["done"]
        return f"{bench.params.profile} {bench.name} {what} {done}/{bench.length}{place}"

    return cast(TaskRunNameCallbackWithParameters, name)  # the protocol has a class method, which no function has


class SegmentLog:
    """The output of one segment. ``first``: the iteration at which it starts or continues."""

    def __init__(self, bench: Workbench, first: int) -> None:
        self.bench, self.first = bench, first
        self.began = self.last = time.monotonic()
        here = bench.workers.inside and bench.params.hardware.gpus == 0  # torch works in this process, on its cores
        self.busy = BusyWatch(bench.params.threads if here else 1, Usage.now())
        self.progress = create_progress_artifact(
            progress=100 * first / bench.length, key=_key("progress", bench), description=_title(bench)
        )
        self.table: UUID | None = None
        self.curves = LIVE_CURVES / f"{bench.name}.csv"
        # Validations by iterations done. Those of earlier processes are stored; that after ``first`` is yet to come.
        earlier = [done for done in range(1, first) if bench.is_watched(done)]
        self.seen: dict[int, Mapping[str, float]] = {done: bench.watch(done).figures for done in earlier}
        self._show_curves(first)
        start = "starts" if first == 0 else f"resumes after iteration {first}, whose checkpoint is stored"
        self.say(f"{_title(bench)} {start}")
        if found := bench.found(first):
            self.say(found)
        self.tracking = Tracking(bench, self.say)
        for done in range(1, first + 1):
            self._track(done)
        for line in audit_findings():
            self.say(f"warning: {line} ({AUDIT})")
        for line in base_findings():
            self.say(f"warning: {line} ({BASE_METRICS})")

    def say(self, line: str) -> None:
        """Print a line on the terminal and log it on the run's page."""
        show(line)
        get_run_logger().info(printable(line))

    @contextmanager
    def during(self, step: str, done: int) -> Iterator[None]:
        """Show the progress of a long step, wherever it runs; ``done``: iterations done at its end."""
        with Paced(f"{self._place(done)} {step}", unit="trajectories") as paced:
            self.bench.told = paced.told
            try:
                yield
            finally:
                self.bench.told = nobody

    def iteration(self, iteration: int, rollouts: Made, rewards: Made, updated: Made) -> None:
        """Report a finished iteration."""
        now = time.monotonic()
        left = (now - self.began) / (iteration + 1 - self.first) * (self.bench.length - iteration - 1)
        speed, place = rollouts.tokens_per_second, self._place(iteration + 1)
        equal = figures.zero_advantage_share(updated.figures)
        self.say(figures.line(place, rewards.figures, tokens_per_second=speed, seconds_left=left, zero_advantage=equal))
        progress_events.tell(
            {
                "kind": "iteration",
                "segment": self.bench.name,
                "done": iteration + 1,
                "of": self.bench.length,
                "seconds_left": left,
                "tokens_per_second": speed,
                "figures": {name: rewards.figures[name] for name in _DRAWN},
            }
        )
        if warning := self.bench.equal_rewards(iteration):
            self.say(f"warning: {warning}")
        if busy := self.busy.look(Usage.now()):
            self.say(f"warning: {busy}")
        self.bench.note_timings(
            iteration,
            {
                "rollout": rollouts.seconds,
                "reward": rewards.seconds,
                "update": updated.seconds,
                "whole": now - self.last,
                "tokens_per_second": speed,
            },
        )
        self.last = now
        self._show_curves(iteration + 1)
        if not self.bench.is_watched(iteration + 1):
            self._track(iteration + 1)
        if isinstance(self.progress, UUID):
            update_progress_artifact(self.progress, progress=100 * (iteration + 1) / self.bench.length)

    def watched(self, done: int, seen: Made) -> None:
        """Report a finished validation."""
        self.say(figures.watch_line(self._place(done), seen.figures, self.bench.validation.num_rows))
        self.seen[done] = seen.figures
        if done:
            self._write_curves([self.bench.curve(iteration) for iteration in range(done)])
        self._track(done, seen)

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Report that the outputs are written, and where."""
        self.curves.unlink(missing_ok=True)  # the segment's output has them all
        self.tracking.close()
        name = self.bench.name
        minutes = figures.clock(time.monotonic() - self.began)
        self.say(
            f"{_title(self.bench)} done in {minutes}: policy in data/train/{name}/policy, "
            f"curves in plots/train/{name}.csv (dvc plots show), "
            f"figures in metrics/train/{name}.json"
        )

    def _track(self, done: int, seen: Made | None = None) -> None:
        """Hand an iteration's figures to the trackers, with those of the validation after it, if any."""
        step = self.bench.number(done - 1)
        if self.tracking.lacks(step):
            watched = (seen or self.bench.watch(done)).figures if self.bench.is_watched(done) else {}
            self.tracking.row(step, figures_of(self.bench.curve(done - 1) if done else {}, watched))

    def _write_curves(self, curves: Sequence[Mapping[str, Any]]) -> None:
        write_text(self.curves, curves_csv(curves, self.seen))

    def _show_curves(self, done: int) -> None:
        """Update the run's table and the file of its curves: all iterations so far, including those of earlier runs."""
        if not done:
            self.curves.unlink(missing_ok=True)  # another run's
            return
        curves = [self.bench.curve(iteration) for iteration in range(done)]
        self._write_curves(curves)
        rows = page.page_rows(curves)
        if self.table is None:
            made = create_table_artifact(table=rows, key=_key("curves", self.bench), description=_title(self.bench))
            assert isinstance(made, UUID), "no event loop runs here, so it is no coroutine"
            self.table = made
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self.table, ArtifactUpdate(data=json.dumps(rows)))

    def _place(self, done: int) -> str:
        width = len(str(self.bench.length))
        return f"{self.bench.name} {done:>{width}}/{self.bench.length}"


def _title(bench: Workbench) -> str:
    return f"{bench.params.profile} {bench.name} ({bench.segment.stage}, {bench.length} iterations)"


def _key(what: str, bench: Workbench) -> str:
    """Return an artifact's key: lower case, digits and dashes."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in f"{bench.params.profile}-{bench.name}-{what}")
    return plain.lower()
