"""Trackers beside training: they change nothing, get every iteration once, and may fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_rooms
import pytest
import yaml
from segment_runs import ONE, in_a_process, made, train

from r1_searcher.cli.track import main as track

PAGE = (Path(__file__).resolve().parents[2] / "docs/trackers.md").read_text(encoding="utf-8")
(OWN,) = re.findall(r'```python title="my_tracker.py"\n(.*?)```', PAGE, re.DOTALL)


def choose(place: Path, code: str = OWN, **section: Any) -> None:
    params = yaml.safe_load((place / "params.yaml").read_text(encoding="utf-8"))
    (place / "own.py").write_text(code, encoding="utf-8")
    params |= {"extensions": ["own.py"]}
    params["tracking"] |= {"trackers": ["lines"], **section}
    (place / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def seen(place: Path) -> list[Any]:
    return read(place / "tracking/lines.jsonl")


def read(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def steps_of(rows: list[Any]) -> list[tuple[int, dict[str, float]]]:
    return [(row["step"], {name: row[name] for name in row if name != "step"}) for row in rows if "step" in row]


def test_a_killed_run_is_tracked_as_one_and_every_iteration_once(
    prefect: str, project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = project("plain", ONE)
    train("s1")
    wanted = made(plain)
    place = project("tracked", ONE)
    choose(place)
    assert in_a_process(place, prefect, FAKE_KILL_AT="12").returncode < 0
    train("s1")
    assert made(place) == wanted, "trackers change nothing"
    first, *rows = seen(place)
    assert (first["card"]["benchmark"], first["params"]["seed"], first["logged"]) == ("validation", 0, None)
    (again,) = [row for row in rows if "run" in row]
    assert again["run"] == first["run"] and again["logged"] > 0
    steps = steps_of(rows)
    assert [step for step, _ in steps] == [0, 1, 2, 3, 4, 5] and rows[-1] == {"closed": True}
    header, *lines = (place / "plots/train/s1.csv").read_text(encoding="utf-8").splitlines()
    for (_, figures), line in zip(steps[1:], lines, strict=True):
        row = {name: cell for name, cell in zip(header.split(","), line.split(","), strict=True) if cell}
        assert figures == {name: float(row[name]) for name in row if name not in ("iteration", "stage", "segment")}
    assert steps[0][1].keys() == {name for name in header.split(",") if name.startswith("watch_")}

    # Another tracker later: nothing is trained, and it gets the whole run.
    choose(place, lines={"file": "other.jsonl"})
    fake_rooms.calls.clear()
    assert track([]) == 0 and track(["s1"]) == 0 and fake_rooms.calls == []
    assert steps_of(read(place / "tracking/other.jsonl")) == steps
    assert "s1: 5 iterations are in lines" in capsys.readouterr().out
    assert track(["s7"]) == 2 and "no segment 's7'" in capsys.readouterr().err


def test_a_tracker_that_fails_is_one_line_and_training_goes_on(
    prefect: str, project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = project("failing", ONE)
    full = "if step == 3:\n            raise OSError('the disk of the tracker is full')\n        self._add({'step'"
    choose(place, OWN.replace('self._add({"step"', full))
    train("s1")
    printed = capsys.readouterr().out.splitlines()
    (line,) = [line for line in printed if "tracker" in line]
    assert "tracker lines stopped, and training goes on: " in line and "own.py" not in line.split(":")[0]
    assert "the disk of the tracker is full" in line and "lines.log" in line
    assert (place / "data/train/s1/policy").exists()
    assert [step for step, _ in steps_of(seen(place))] == [0, 1, 2]
