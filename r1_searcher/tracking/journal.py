"""The journal of a segment: what its trackers are to show, and the processes that show it.

``.store/.tracking/RUN/`` has ``run.json`` (names, parameters, protocol card), ``journal.jsonl`` (one row per iteration)
and, per tracker, how far it has come and what it said. A row is written once, also if its iteration is replayed.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from r1_searcher.files.artefacts import fingerprint, write_json, write_text
from r1_searcher.texts import parse_json
from r1_searcher.training.segment import SegmentState

_KEPT = ".tracking"  # in the store
RUN_FILE, JOURNAL = "run.json", "journal.jsonl"
_NOT_FIGURES = ("iteration", "stage", "segment")
_PATIENCE_SECONDS = 60.0  # at the end, for all trackers together
_ROOT = Path(__file__).resolve().parents[2]  # the tracker's process runs the same files as this one

Say = Callable[[str], None]


def run_id(state: SegmentState) -> str:
    """Return the id of a segment's run: the same when it is resumed or made longer, another for other parameters."""
    parts = [state.params.profile, state.params.seed, state.name, state.keys[0].policy]
    plain = re.sub(r"[^A-Za-z0-9]+", "-", f"{state.params.profile}-{state.name}")[:40]
    return f"{plain.strip('-')}-{fingerprint(parts)[:12]}"


def describe(state: SegmentState) -> dict[str, Any]:
    """Return what trackers show of a segment besides its figures."""
    params = state.params
    return {
        "id": run_id(state),
        "name": f"{params.profile} {state.name}",
        "group": f"{params.profile} seed {params.seed}",
        "params": params.model_dump(mode="json"),
        "card": validation_card(state),
        "extensions": list(params.extensions),
    }


def validation_card(state: SegmentState) -> dict[str, Any]:
    """Return the protocol card of a segment's validations."""
    from r1_searcher.protocol_card import make_card
    from r1_searcher.retrieval import identify
    from r1_searcher.rewards.metrics import METRIC_VERSION
    from r1_searcher.rollout.prompt import prompt_of
    from r1_searcher.training.engine_worker import INDEX

    searched = identify(state.params, index=INDEX)
    return make_card(
        rollout=state.params.rollout,
        benchmark="validation",
        questions=state.validation,
        mode="search",
        prompt_sha256=prompt_of(state.params.rollout).hash,
        corpus=searched.corpus,
        index=searched.fingerprint,
        retriever=searched.description,
        engine=state.params.rollout.engine,
        metric_version=METRIC_VERSION,
    )


def figures_of(row: Mapping[str, Any], watched: Mapping[str, float]) -> dict[str, float]:
    """Return a row of plots/curves.csv as numbers: its figures, and those of the validation after it as ``watch_*``."""
    joined = {name: value for name, value in row.items() if name not in _NOT_FIGURES}
    joined |= {f"watch_{name}": value for name, value in watched.items()}
    return {
        name: float(value) for name, value in joined.items() if isinstance(value, int | float) and math.isfinite(value)
    }


class Tracking:
    """A segment's journal and trackers. Whatever fails is one warning by ``say``, and training goes on."""

    def __init__(self, state: SegmentState, say: Say) -> None:
        """Open the journal and start the trackers; does nothing if none is chosen."""
        self._say, self._steps = say, set[int]()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.folder = state.store.root / _KEPT / run_id(state)
        if not (chosen := state.params.tracking.trackers):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / RUN_FILE, describe(state))
            self._steps = _whole_rows(self.folder / JOURNAL)
            self._running = {name: start(self.folder, name) for name in dict.fromkeys(chosen)}
        except OSError as error:
            self._give_up(error)

    @property
    def active(self) -> bool:
        """Whether any tracker still runs."""
        return bool(self._running)

    def lacks(self, step: int) -> bool:
        """Return whether this step's row is still to be written."""
        return self.active and step not in self._steps

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        """Append a step's row, unless it is there."""
        if self.lacks(step):
            try:
                with open(self.folder / JOURNAL, "a", encoding="utf-8") as file:
                    file.write(json.dumps([step, dict(figures)]) + "\n")
            except OSError as error:
                self._give_up(error)
            self._steps.add(step)
        self._look()

    def close(self) -> list[str]:
        """Tell the trackers that the run has ended, and wait a while for them; return those that failed."""
        for process in self._running.values():
            assert process.stdin is not None
            process.stdin.close()
        until = time.monotonic() + _PATIENCE_SECONDS
        all_of_them = list(self._running)
        for name, process in list(self._running.items()):
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"warning: tracker {name} is still writing, and goes on by itself ({self._log(name)})")
                del self._running[name]
        self._look()
        return [name for name in all_of_them if name not in self._running]

    def _look(self) -> None:
        """Say which trackers have failed since the last look."""
        for name, process in list(self._running.items()):
            if process.poll():
                del self._running[name]
                lines = self._log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                why = lines[-1].removeprefix("error: ") if lines else f"ended with status {process.returncode}"
                self._say(f"warning: tracker {name} stopped, and training goes on: {why} ({self._log(name)})")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _give_up(self, error: OSError) -> None:
        self._say(f"warning: trackers stopped, and training goes on: {self.folder}: {error.strerror or error}")
        for process in self._running.values():
            assert process.stdin is not None
            process.stdin.close()
        self._running = {}


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start the process of one tracker. It ends when its standard input does, so also if this process is killed."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    alone = {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "r1_searcher.tracking.worker", str(folder), name],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **alone},
            start_new_session=True,  # Ctrl-C is for training, which then closes its input
        )


def _whole_rows(path: Path) -> set[int]:
    """Return the steps of a journal, after removing a last row that a kill left incomplete."""
    if not path.exists():
        write_text(path, "")
        return set()
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    return {step for step, _ in rows_of(whole.splitlines())}


def rows_of(lines: Iterable[str]) -> list[tuple[int, dict[str, float]]]:
    """Return the steps and figures in lines of a journal."""
    return [(int(step), figures) for step, figures in map(parse_json, lines)]
