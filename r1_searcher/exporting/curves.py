"""The curves of training as one SVG file that needs no style sheet, for a model card."""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher.report.charts import HEIGHT, ChartPoint, curve_chart
from r1_searcher.report.inputs import IterationFigures

_SHOWN = (("reward", "Reward"), ("searches", "Searches per question"), ("format_rate", "Format rate"), ("f1", "F1"))
_WIDTH, _TITLE = 370, 20
_STYLE = """\
text{font:11px system-ui,sans-serif;fill:#5b6069}.title{font-size:13px;font-weight:600;fill:#1c1e21}
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#ececef}.edge{stroke:#5b6069;stroke-dasharray:4 3}
.line{fill:none;stroke:#2a62c9;stroke-width:2.2}.raw{fill:none;stroke:#2a62c9;opacity:.38}
.dot{fill:#2a62c9}.ghost{fill:transparent}"""


def curves_svg(curves: Sequence[IterationFigures]) -> str:
    """Return an SVG document with the curves, two in a row."""
    width, height = 2 * _WIDTH, 2 * (HEIGHT + _TITLE)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for place, (column, title) in enumerate(_SHOWN):
        across, down = place % 2 * _WIDTH, place // 2 * (HEIGHT + _TITLE)
        points = [ChartPoint(row.number, row.figures[column], row.stage) for row in curves if column in row.figures]
        if points:
            chart = str(curve_chart(title, points)).replace(
                "<svg ", f'<svg width="{_WIDTH - 10}" height="{HEIGHT}" ', 1
            )
            parts.append(
                f'<g transform="translate({across} {down})"><text class="title" x="8" y="16">{title}</text>'
                f'<g transform="translate(0 {_TITLE})">{chart}</g></g>'
            )
    return "".join([*parts, "</svg>\n"])
