"""What a part has found: a file that is written whole after each figure, so that a killed part loses nothing."""

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


@dataclass(frozen=True)
class Machine:
    """What the parts run on."""

    device: str  # "cuda" or "cpu"
    rehearsal: bool  # tiny sizes
    out: Path
    model: str = ""  # a folder or GGUF file for RL

    @property
    def reports(self) -> Path:
        """The folder of the parts' files."""
        return self.out / "parts"


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
        write_json(self.machine.reports / f"{self.report.part}.json", asdict(self.report))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole. ``NaN`` and infinities become null, which JSON has."""
    write_text(path, json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def read_report(machine: Machine, part: str) -> Report | None:
    """Return what a part has written so far; None if nothing."""
    path = machine.reports / f"{part}.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return Report(**{**found, "figures": [Figure(**one) for one in found["figures"]]})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
