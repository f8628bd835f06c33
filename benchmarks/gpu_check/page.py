"""The page: one HTML file without anything from outside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .claims import UNKNOWN, Verdict
from .figures import Figure, Report

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
figure.curve { display: inline-block; margin-right: 1.5rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; width: 100%; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #dde2ea; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.done, .holds { color: #11734b; } .failed, .ended, .fails { color: #b3261e; font-weight: 600; }
.skipped, .not, .unknown { color: #6b7280; }
.note { background: #fff6dd; padding: .5rem 1rem; }
"""
_CURVES = ("reward", "f1", "format_rate", "searches", "response_length", "gap", "seconds")
_WIDTH, _HEIGHT = 320, 110
_COLOURS = {1: "#2f5fd0", 2: "#c2572b"}  # of the stages


def page(title: str, notes: Sequence[str], verdicts: Sequence[Verdict], reports: Sequence[Report]) -> str:
    """Return the HTML."""
    body = [f"<h1>{escape(title)}</h1>", *(f'<p class="note">{escape(note)}</p>' for note in notes)]
    rows = [[_state(one), escape(one.title), f"{one.seconds:.0f} s", escape(one.why)] for one in reports]
    body += ["<h2>Parts</h2>", _table(("state", "part", "took", "why"), rows)]
    body += ["<h2>Claims</h2>", _table(("verdict", "claim", "stated", "allowed", "measured"), map(_claim, verdicts))]
    for report in reports:
        if report.figures or report.curves or report.output:
            body.append(f"<h2>{escape(report.title)}</h2>")
        if report.figures:
            head = ("figure", "measured", "planned", "of the plan", "")
            body.append(_table(head, map(_figure, report.figures)))
        if report.output and report.state != "done":
            body.append(f"<h3>The end of its output</h3><pre>{escape(report.output)}</pre>")
        if report.curves:
            body.append("".join(_curve(name, report.curves) for name in _CURVES if name in report.curves[0]))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )


def _table(head: Sequence[str], rows: object) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    for row in rows:  # type: ignore[attr-defined]
        lines.append("<tr>" + "".join(f"<td{_kind(cell)}>{cell}</td>" for cell in row) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _kind(cell: str) -> str:
    return ' class="n"' if cell[:1].isdigit() or cell[:2].strip("-").isdigit() else ""


def _state(report: Report) -> str:
    return f'<span class="{escape(report.state.split()[0])}">{escape(report.state)}</span>'


def _claim(one: Verdict) -> list[str]:
    kind = {UNKNOWN: "unknown", "holds": "holds"}.get(one.verdict, "fails")
    verdict = f'<span class="{kind}">{escape(one.verdict)}</span>'
    return [verdict, escape(one.name), shown(one.stated), f"{shown(one.low)} to {shown(one.high)}", shown(one.measured)]


def _figure(one: Figure) -> list[str]:
    ratio = ""
    if one.planned and isinstance(one.value, float | int) and not isinstance(one.value, bool):
        ratio = f"{one.value / one.planned:.2f}"
    unit = f" {escape(one.unit)}" if one.unit and one.value is not None else ""
    planned = shown(one.planned) + unit if one.planned is not None else ""
    return [escape(one.name), shown(one.value) + unit, planned, ratio, escape(one.about)]


def shown(value: float | str | bool | None) -> str:
    """Return a value for readers, safe for HTML."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return escape(value)
    if value == float("inf"):
        return "any"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _curve(name: str, rows: Sequence[dict[str, float]]) -> str:
    """Return one curve as SVG, stage 2 in another colour."""
    values = [float(row[name] or 0.0) for row in rows]
    low, high = min([*values, 0.0]), max([*values, 0.0])
    span = (high - low) or 1.0
    step = _WIDTH / max(len(values) - 1, 1)
    points: dict[int, list[str]] = {}
    for number, (row, value) in enumerate(zip(rows, values, strict=True)):
        place = f"{number * step:.1f},{_HEIGHT - (value - low) / span * _HEIGHT:.1f}"
        points.setdefault(int(row.get("stage", 1)), []).append(place)
    lines = "".join(
        f'<polyline fill="none" stroke="{_COLOURS[stage]}" stroke-width="2" points="{" ".join(p)}"/>'
        for stage, p in points.items()
    )
    title = f"{name.replace('_', ' ')}: {shown(values[0])} → {shown(values[-1])} in {len(values)} iterations"
    return (
        f'<figure class="curve"><figcaption>{escape(title)}</figcaption>'
        f'<svg width="{_WIDTH}" viewBox="-4 -4 {_WIDTH + 8} {_HEIGHT + 8}">{lines}</svg></figure>'
    )
