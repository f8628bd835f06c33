"""What a part has found: a file that is written whole after each figure, so that a killed part loses nothing.

When a part has ended its report moves into results.json, so that the folder never has more than a few files.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured value; ``planned``: what the plan or a data sheet says of it. None: not measured, or not planned."""

    name: str
    value: float | str | bool | None
    unit: str = ""
    planned: float | None = None
    about: str = ""


@dataclass
class Report:
    """A part's state and figures."""

    part: str
    title: str
    state: str = "not started"  # then running, and at last: done, skipped, failed, ended
    why: str = ""  # of a part that is not done
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)
    curves: list[dict[str, float]] = field(default_factory=list)  # one row per iteration of RL
    output: str = ""  # the end of what it printed


@dataclass(frozen=True)
class Machine:
    """What the parts run on."""

    device: str  # "cuda" or "cpu"
    rehearsal: bool  # tiny sizes
    out: Path
    model: str = ""  # a folder or GGUF file for RL

    def report(self, part: str) -> Path:
        """The file of a part that runs."""
        return self.out / "running" / f"{part}.json"

    def log(self, part: str) -> Path:
        """The output of a part that runs."""
        return self.out / "running" / f"{part}.txt"

    @property
    def results(self) -> Path:
        """The reports of all parts that have ended."""
        return self.out / "results.json"


class Figures:
    """The recorder that a part is given."""

    def __init__(self, machine: Machine, report: Report, seconds: float) -> None:
        self.machine, self.report = machine, report
        self._began, self._seconds = time.monotonic(), seconds
        report.state = "running"
        self.write()

    def left(self) -> float:
        """Return the seconds until the part is ended."""
        return self._seconds - (time.monotonic() - self._began)

    def note(
        self,
        name: str,
        value: float | str | bool | None,
        unit: str = "",
        *,
        planned: float | None = None,
        about: str = "",
    ) -> None:
        """Add a figure."""
        self.report.figures.append(Figure(name, value, unit, planned, about))
        self.write()

    def curve(self, **values: float) -> None:
        """Add a row of a curve."""
        self.report.curves.append(values)
        self.write()

    def end(self, state: str, why: str = "") -> None:
        """Set how the part ended."""
        self.report.state, self.report.why = state, why
        self.write()

    def write(self) -> None:
        """Write the part's file."""
        self.report.seconds = time.monotonic() - self._began
        write_json(self.machine.report(self.report.part), asdict(self.report))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole. ``NaN`` and infinities become null, which JSON has."""
    write_text(path, json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def read_report(machine: Machine, part: str) -> Report:
    """Return what a running part has written so far."""
    return _report(json.loads(machine.report(part).read_text(encoding="utf-8")))


def read_results(machine: Machine) -> dict[str, Report]:
    """Return the reports of the parts that have ended, in this folder and on the same kind of device; none if there are
    none."""
    if not machine.results.is_file():
        return {}
    found = json.loads(machine.results.read_text(encoding="utf-8"))
    if found["rehearsal"] != machine.rehearsal:
        return {}
    return {one["part"]: _report(one) for one in found["parts"]}


def _report(found: dict[str, Any]) -> Report:
    return Report(**{**found, "figures": [Figure(**one) for one in found["figures"]]})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
