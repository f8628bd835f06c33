"""Charts as SVG text: curves over iterations, and means with their intervals. Colours are CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from r1_searcher.shown import visible

_WIDTH, HEIGHT = 360, 210
LEFT, _RIGHT, TOP, BOTTOM = 42, 10, 22, 28
SMOOTH_OVER = 5  # iterations in the bold curve's mean
_FEW = 12  # up to so many points all are drawn and nothing is smoothed


@dataclass(frozen=True)
class ChartPoint:
    """A figure ``y`` at iteration ``x`` of a stage."""

    x: float
    y: float
    stage: str


def _escaped(text: str) -> Markup:
    return escape(visible(text))


def number(value: float) -> str:
    """Format a figure for people: three decimals below 10, fewer above."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100 or (value == int(value) and size >= 2):
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if 0 < size < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if size >= 2 else f"{value:.3f}"


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round values that span ``low`` to ``high``: the first at or below, the last at or above."""
    assert low <= high
    if low == high:
        low, high = (low - 0.5, high + 0.5)
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def smoothed(points: Sequence[ChartPoint], over: int = SMOOTH_OVER) -> list[ChartPoint]:
    """Return centred means over at most ``over`` neighbours of the same stage."""
    half = over // 2
    out = []
    for place, point in enumerate(points):
        near = [p.y for p in points[max(0, place - half) : place + half + 1] if p.stage == point.stage]
        out.append(ChartPoint(point.x, sum(near) / len(near), point.stage))
    return out


def _by_stage(points: Sequence[ChartPoint]) -> list[list[ChartPoint]]:
    """Return runs of one stage: no line crosses a boundary, because the reward's meaning changes there."""
    runs: list[list[ChartPoint]] = []
    for point in points:
        if runs and runs[-1][-1].stage == point.stage:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def curve_chart(
    title: str,
    points: Sequence[ChartPoint],
    *,
    watch: Sequence[ChartPoint] = (),
    unit: tuple[float, float] | None = None,
) -> Markup:
    """Return a curve over iterations, smoothed if long, with stage boundaries, and ``watch`` (validation) as separate
    dots."""
    if not points:
        raise ValueError(f"no points for {title}")
    every = [*points, *watch]
    low, high = unit or (min(p.y for p in every), max(p.y for p in every))
    if unit is None and low > 0 and low < 0.6 * high:
        low = 0.0
    marks = ticks(low, high)
    low, high = marks[0], marks[-1]
    first, last = min(p.x for p in every), max(p.x for p in every)
    across = (last - first) or 1.0

    def x(value: float) -> float:
        return LEFT + (value - first) / across * (_WIDTH - LEFT - _RIGHT)

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return TOP + (high - inside) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def path(run: Sequence[ChartPoint], kind: str) -> str:
        steps = " ".join(f"{'M' if place == 0 else 'L'}{x(p.x):.1f} {y(p.y):.1f}" for place, p in enumerate(run))
        return f'<path class="{kind}" d="{steps}"/>'

    runs = _by_stage(points)
    parts = [_frame(title, points)]
    for mark in marks:
        line = y(mark)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{_WIDTH - _RIGHT}" y1="{line:.1f}" y2="{line:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{line + 3.5:.1f}">{mark:g}</text>')
    for mark in _whole_ticks(first, last):
        parts.append(f'<text class="tick middle" x="{x(mark):.1f}" y="{HEIGHT - 10}">{mark:g}</text>')
    for place, run in enumerate(runs):
        if place:
            edge = (x(runs[place - 1][-1].x) + x(run[0].x)) / 2
            parts.append(f'<line class="edge" x1="{edge:.1f}" x2="{edge:.1f}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}"/>')
        middle = (x(run[0].x) + x(run[-1].x)) / 2
        parts.append(
            f'<text class="stage middle" x="{middle:.1f}" y="{TOP - 10}">{_escaped(stage_name(run[0].stage))}</text>'
        )
    few = len(points) <= _FEW
    for run in runs:
        if not few:
            parts.append(path(run, "raw"))
        parts.append(path(run if few else smoothed(run), "line"))
    for p in points:
        seen = "dot" if few or len(runs) == len(points) else "ghost"
        parts.append(_mark(x(p.x), y(p.y), seen, f"iteration {p.x:g}: {number(p.y)}", 2.5 if seen == "dot" else 5))
    for p in watch:
        parts.append(_mark(x(p.x), y(p.y), "watch", f"validation, iteration {p.x:g}: {number(p.y)}", 3.5))
    parts.append("</svg>")
    return Markup("".join(parts))


def stage_name(stage: str) -> str:
    """Return ``stage1`` in words."""
    return f"stage {stage[5:]}" if stage.startswith("stage") and stage[5:].isdigit() else stage


def _whole_ticks(first: float, last: float) -> list[float]:
    return [mark for mark in ticks(first, last) if first <= mark <= last and mark == int(mark)]


def _frame(title: str, points: Sequence[ChartPoint]) -> str:
    label = (
        f"{title}: {number(points[0].y)} at iteration {points[0].x:g}, "
        f"{number(points[-1].y)} at iteration {points[-1].x:g}"
    )
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {HEIGHT}" role="img" aria-label="{_escaped(label)}">'


def _mark(x: float, y: float, kind: str, tip: str, radius: float) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"><title>{_escaped(tip)}</title></circle>'


@dataclass(frozen=True)
class Interval:
    """A mean with its interval."""

    label: str
    value: float
    low: float
    high: float


def interval_chart(title: str, rows: Sequence[Interval], *, guess: float | None = None) -> Markup:
    """Return shares from 0 to 1 as bars with interval whiskers, one per row; ``guess`` as a dashed line."""
    left, right, row_height, top = 106, 46, 26, 6
    width, height = 380, top + row_height * len(rows) + 22

    def x(value: float) -> float:
        return left + min(max(value, 0.0), 1.0) * (width - left - right)

    spoken = "; ".join(f"{row.label} {number(row.value)}" for row in rows)
    label = _escaped(f"{title}: {spoken}")
    parts = [f'<svg class="chart bars" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">']
    bottom = top + row_height * len(rows)
    for mark in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="tick middle" x="{x(mark):.1f}" y="{bottom + 15}">{mark:g}</text>')
    if guess is not None:
        parts.append(f'<line class="edge" x1="{x(guess):.1f}" x2="{x(guess):.1f}" y1="{top}" y2="{bottom}"/>')
    for place, row in enumerate(rows):
        middle = top + row_height * place + row_height / 2
        parts.append(f'<text class="name end" x="{left - 8}" y="{middle + 4:.1f}">{_escaped(row.label)}</text>')
        tip = f"{row.label}: {number(row.value)} ({number(row.low)} to {number(row.high)})"
        parts.append(
            f'<rect class="bar" x="{left}" y="{middle - 7:.1f}" width="{max(x(row.value) - left, 1):.1f}" height="14">'
            f"<title>{_escaped(tip)}</title></rect>"
        )
        parts.append(
            f'<path class="whisker" d="M{x(row.low):.1f} {middle:.1f} H{x(row.high):.1f} '
            f'M{x(row.low):.1f} {middle - 4:.1f} v8 M{x(row.high):.1f} {middle - 4:.1f} v8"/>'
        )
        beside = x(max(row.value, row.high)) + 7
        parts.append(f'<text class="value" x="{beside:.1f}" y="{middle + 4:.1f}">{number(row.value)}</text>')
    parts.append("</svg>")
    return Markup("".join(parts))
