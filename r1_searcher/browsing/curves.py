"""Curves of training, finished or going on: from the runs' files, else from the indexed rewards."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from r1_searcher.browsing.folders import run_of, walk
from r1_searcher.errors import PipelineError
from r1_searcher.files.store import STORE
from r1_searcher.params import Collapse
from r1_searcher.texts import parse_json, parse_yaml
from r1_searcher.training.figures import collapse, zero_advantage_share

_RECENT = 10  # iterations: of a mean duration, and of what counts as usual
_MOST_BYTES = 64 << 20
_HIGH_KL = 0.1
_MANY_ZERO = 0.9
_TEXTS = ("stage", "segment")


@dataclass
class SegmentCurves:
    """``rows``: one per iteration, a name → figure; ``seconds``: of each iteration that was run, in order."""

    name: str
    stage: str = ""
    rows: list[dict[str, float]] = field(default_factory=list)
    live: bool = False
    planned: int | None = None  # iterations
    guard: Collapse | None = None
    seconds: list[dict[str, float]] = field(default_factory=list)


def curves(roots: Sequence[Path], at: duckdb.DuckDBPyConnection, price: float | None) -> list[dict[str, Any]]:
    """Return one entry per run: its segments' figures, seconds, cost so far and warnings.

    ``price``: of a machine hour, in any currency.
    """
    runs: dict[str, dict[str, SegmentCurves]] = {}
    params: dict[str, Any] = {}
    timings: list[tuple[str, Path]] = []
    for path, run in _files(roots):
        if path.suffix == ".csv":
            segment = runs.setdefault(run, {}).setdefault(path.stem, SegmentCurves(path.stem))
            live = path.parent.name == "live"
            if live or not segment.live:  # a segment that trains again is shown as it is now
                segment.rows, segment.stage, segment.live = *_read_csv(path), live
        elif path.name == "params.yaml":
            params[run] = _read_params(path)
        else:
            timings.append((run, path))
    for run, path in timings:
        for name, segment in runs.get(run, {}).items():
            if path.stem.endswith(f"-{name}"):
                segment.seconds = _read_lines(path)
    _add_rewarded(runs, at)
    found = []
    for run, segments in sorted(runs.items()):
        for name, segment in segments.items():
            _plan(segment, params.get(run), name)
        ordered = sorted(segments.values(), key=lambda one: (one.rows[0]["iteration"] if one.rows else 0, one.name))
        found.append(_shown(run, [one for one in ordered if one.rows], price))
    return [one for one in found if one["segments"]]


def _files(roots: Sequence[Path]) -> Iterable[tuple[Path, str]]:
    seen = set[Path]()
    for root in roots:
        for folder, names in walk(root):
            for name in sorted(names):
                path = folder / name
                curve = name.endswith(".csv") and folder.name in ("train", "live") and folder.parent.name == "plots"
                of_store = name.endswith(".jsonl") and folder.name == ".timings" and folder.parent.name == STORE
                if (curve or of_store or name == "params.yaml") and path not in seen and path.is_file():
                    seen.add(path)
                    yield path, run_of(path, root)


def _read(path: Path) -> str:
    with suppress(OSError):
        if path.stat().st_size <= _MOST_BYTES:
            return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _read_csv(path: Path) -> tuple[list[dict[str, float]], str]:
    """Return the figures of a curve file, without cells that are none, and its stage."""
    rows, stage = [], ""
    with suppress(csv.Error):
        for number, cells in enumerate(csv.DictReader(io.StringIO(_read(path))), 1):
            row = {name: value for name, cell in cells.items() if name and (value := _number(cell)) is not None}
            rows.append({"iteration": float(number), **row})
            stage = cells.get("stage") or stage
    return rows, stage


def _number(cell: object) -> float | None:
    try:
        value = float(cell)  # type: ignore[arg-type]  # what is no number is a ValueError or a TypeError
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _read_lines(path: Path) -> list[dict[str, float]]:
    found = []
    for line in _read(path).splitlines():
        with suppress(ValueError, PipelineError):
            value = parse_json(line)
            if isinstance(value, dict):
                found.append({name: one for name, cell in value.items() if (one := _number(cell)) is not None})
    return found


def _read_params(path: Path) -> Any:
    with suppress(PipelineError, ValueError):
        return parse_yaml(_read(path), where=str(path))
    return None


def _plan(segment: SegmentCurves, params: Any, name: str) -> None:
    """Set what the parameters say of a segment; parameters of another version say nothing."""
    with suppress(KeyError, TypeError, ValueError, PipelineError):
        train = params["train"]
        planned = train["segments"][name]
        segment.planned = int(planned["iterations"])
        segment.stage = segment.stage or str(planned["stage"])
        segment.guard = Collapse(**train[planned["stage"]]["collapse"])


_MEANS = {
    "reward": "reward",
    "f1": "f1",
    "cover_em": "cover_em",
    "format_rate": "CAST(format_right AS DOUBLE)",
    "searches": "searches",
    "search_rate": "CAST(searches > 0 AS DOUBLE)",
    "response_length": "policy_tokens",
}


def _add_rewarded(runs: dict[str, dict[str, SegmentCurves]], at: duckdb.DuckDBPyConnection) -> None:
    """Add segments of which there are only rewards, and validations that no curve file has yet."""
    known = {(run, name) for run, segments in runs.items() for name in segments}
    trains = {run for run, segments in runs.items() if any(one.live for one in segments.values())}
    for run, policy, iteration, means in _rewarded("training", at):
        if (run, policy) in known or (run in trains and policy.startswith("training ")):
            continue
        segment = runs.setdefault(run, {}).setdefault(policy, SegmentCurves(policy))
        segment.rows.append({"iteration": iteration, **means})
    for run, policy, iteration, means in _rewarded("validation", at):
        for row in runs.get(run, {}).get(policy, SegmentCurves(policy)).rows:
            if row["iteration"] == iteration and "watch_reward" not in row:
                row.update({f"watch_{name}": value for name, value in means.items()})


def _rewarded(kind: str, at: duckdb.DuckDBPyConnection) -> list[tuple[str, str, float, dict[str, float]]]:
    """Return run, segment, iteration and means of the indexed rewards, in the order of training."""
    asked = f"""SELECT run, policy, iteration, {", ".join(f"avg({one})" for one in _MEANS.values())}
      FROM trajectories WHERE kind = ? AND reward IS NOT NULL AND iteration IS NOT NULL
      AND coalesce(counted, true) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    found = []
    for run, policy, iteration, *means in at.execute(asked, [kind]).fetchall():
        pairs = zip(_MEANS, means, strict=True)
        figures = {name: value for name, value in pairs if value is not None and math.isfinite(value)}
        found.append((run, policy, float(iteration), figures))
    return found


def _shown(run: str, segments: Sequence[SegmentCurves], price: float | None) -> dict[str, Any]:
    seconds = sum(one.get("whole", 0.0) for segment in segments for one in segment.seconds)
    hours = seconds / 3600
    shown = [
        {
            "name": one.name,
            "stage": one.stage,
            "live": one.live,
            "planned": one.planned,
            "done": len(one.rows),
            "rows": one.rows,
            "guard": one.guard.model_dump() if one.guard else None,
            "speeds": [
                {
                    name: each[name]
                    for name in ("iteration", "tokens_per_second", "whole", "rollout", "update")
                    if name in each
                }
                for each in one.seconds
            ],
            "tokens_per_second": _latest([each.get("tokens_per_second") for each in one.seconds]),
            "searches_per_second": _searches(one),
            "seconds_left": _left(one),
            "sentinels": sentinels(one),
        }
        for one in segments
    ]
    cost = None if price is None else hours * price
    return {"run": run, "segments": shown, "hours": hours if seconds else None, "cost": cost}


def _latest(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _searches(segment: SegmentCurves) -> float | None:
    """Return searches per second of rollout in the last timed iteration."""
    if not segment.seconds or not segment.rows:
        return None
    row, spent = segment.rows[-1], segment.seconds[-1].get("rollout", 0.0)
    if spent <= 0 or "searches" not in row or "num_trajectories" not in row:
        return None
    return row["searches"] * row["num_trajectories"] / spent


def _left(segment: SegmentCurves) -> float | None:
    """Return the seconds that a segment's other iterations will take at the pace of the last ones."""
    recent = [one["whole"] for one in segment.seconds[-_RECENT:] if "whole" in one]
    if segment.planned is None or not recent:
        return None
    return max(0, segment.planned - len(segment.rows)) * median(recent)


def sentinels(segment: SegmentCurves) -> list[dict[str, Any]]:
    """Return what watches over a segment: a name, whether it is well ("ok", "warn", "stop", "unknown"), and why."""
    return [_guard(segment), _zero(segment.rows), _kl(segment.rows)]


def _one(name: str, state: str, says: str) -> dict[str, Any]:
    return {"name": name, "state": state, "says": says}


def _guard(segment: SegmentCurves) -> dict[str, Any]:
    name = "collapse guard"
    rows = segment.rows
    if segment.guard is None or not all("format_rate" in row and "response_length" in row for row in rows):
        return _one(name, "unknown", "no parameters beside these files")
    guard = segment.guard
    stopped = collapse(rows, guard, f"train.{segment.stage}.collapse")
    if stopped is not None:
        return _one(name, "stop", stopped.why)
    last, longest = rows[-1], guard.max_tokens_growth * rows[0]["response_length"]
    says = f"format {last['format_rate']:.2f}, limit {guard.min_format_rate:g}; "
    says += f"{last['response_length']:.0f} tokens, limit {longest:.0f}"
    beyond = last["format_rate"] < guard.min_format_rate or last["response_length"] > longest
    return _one(name, "warn" if beyond else "ok", says)


def _zero(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    name = "zero-advantage groups"
    if "num_zero_advantage_groups" not in rows[-1]:
        return _one(name, "unknown", "not in these curves")
    share = zero_advantage_share(rows[-1])
    return _one(name, "warn" if share >= _MANY_ZERO else "ok", f"{share:.0%} of the questions trained nothing")


def _kl(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """``kl_ref…`` is the distance from the start of the segment, ``kl_old_k3`` that of one update."""
    names = [name for name in rows[-1] if name.startswith("kl_") and name != "kl_old_k1"]
    if not names:
        return _one("KL", "unknown", "not in these curves")
    says, state = [], "ok"
    for name in sorted(names):
        values = [row[name] for row in rows if name in row]
        usual = median(values[-_RECENT - 1 : -1] or values)
        if name == "kl_old_k3" and (values[-1] > _HIGH_KL or (values[-1] > 0.01 and values[-1] > 10 * abs(usual))):
            state = "warn"
        says.append(f"{name} {values[-1]:.2g} (usual: {usual:.2g})")
    return _one("KL", state, "; ".join(says))
