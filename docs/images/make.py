"""The picture of README: curves of a run and one of its trajectories, drawn by the report's own charts.

    python docs/images/make.py          # after `make train`; writes docs/images/run.svg

Reads plots/curves.csv and data/evaluation/stage2/held_out.parquet. Same files, same bytes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from markupsafe import Markup, escape

from r1_searcher.files.artefacts import read_table, write_text
from r1_searcher.report import charts
from r1_searcher.report.inputs import TableRow, read_curves
from r1_searcher.report.page import points
from r1_searcher.report.trajectories import spans
from r1_searcher.transcripts.grammar import QUERY

CURVES = (
    ("reward", "Reward", None),
    ("searches", "Searches per trajectory", None),
    ("format_rate", "Format rate", (0.0, 1.0)),
    ("cover_em", "Cover-EM of the answer", (0.0, 1.0)),
)
WIDTH, HEIGHT = 1150, 500
CHART_WIDTH, CHART_HEIGHT = 340, 198
STEP, RIGHT, RIGHT_WIDTH = 17, 730, 400
LETTERS = 61  # of the monospaced font across the right half
CAPTION = (
    "Left: one point per iteration, and the mean over five.",
    "Right: what the final policy writes (queries blue, answer orange),",
    "and the passages that the search inserts (green).",
)
STYLE = """
text { font: 11px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #5b6069; }
.title { font-size: 14px; font-weight: 600; fill: #1c1e21; }
.said, .found { font: 10.5px ui-monospace, "DejaVu Sans Mono", monospace; fill: #1c1e21; white-space: pre; }
.found { fill: #1f4a30; } .query { fill: #2a62c9; font-weight: 700; } .answer { fill: #b4530a; font-weight: 700; }
.tag { fill: #8a9099; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: #ececef; } .edge { stroke: #5b6069; stroke-dasharray: 4 3; }
.line { fill: none; stroke: #2a62c9; stroke-width: 2.2; stroke-linejoin: round; }
.raw { fill: none; stroke: #2a62c9; opacity: .38; }
.dot { fill: #2a62c9; } .ghost { fill: none; } .watch { fill: #b4530a; }
"""


def picture(curves: Path, evaluated: Path, question: str) -> str:
    """The SVG: four curves on the left, the trajectory of ``question`` on the right."""
    iterations = read_curves(curves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="11">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff"/>',
    ]
    for place, (column, title, unit) in enumerate(CURVES):
        x, y = 12 + place % 2 * (CHART_WIDTH + 10), 30 + place // 2 * (CHART_HEIGHT + 42)
        watch = points(iterations, f"watch_{column}")
        drawn = charts.curve_chart(title, points(iterations, column), watch=watch, unit=unit)
        placed = f'<svg x="{x}" y="{y}" width="{CHART_WIDTH}" height="{CHART_HEIGHT}" '
        parts.append(f'<text class="title" x="{x + 8}" y="{y - 8}">{title}</text>')
        parts.append(str(drawn).replace("<svg ", placed, 1))
    rows = [row for row in read_table(evaluated).to_pylist() if row["question"] == question]
    if not rows:
        raise SystemExit(f"error: {evaluated} has no question {question!r}")
    parts.append(f'<text class="title" x="{RIGHT}" y="22">{escape(question)}</text>')
    for place, line in enumerate(lines(rows[0])):
        parts.append(f'<text x="{RIGHT}" y="{48 + place * STEP}" class="said">{line}</text>')
    for place, line in enumerate(CAPTION):
        parts.append(f'<text x="{RIGHT}" y="{HEIGHT - 50 + place * STEP}">{line}</text>')
    return "\n".join([*parts, "</svg>\n"])


def lines(row: TableRow) -> list[str]:
    """A trajectory as lines of SVG text: what the policy wrote is coloured as in the report, documents are green."""
    out = [Markup('<tspan class="tag">&lt;think&gt;</tspan>')]
    for segment in row["segments"]:
        if segment["source"] == "document":
            found = segment["text"].strip().splitlines()
            out += [Markup(f'<tspan class="found">{escape(part)}</tspan>') for line in found for part in cut(line)]
            out.append(Markup(""))
            continue
        line = Markup("")
        for span in spans(segment["text"].strip()):
            for number, text in enumerate(span.text.split("\n")):
                if number or (text == QUERY and line):
                    out.append(line)
                    line = Markup("")
                line += Markup(f'<tspan class="{span.kind}">{escape(text)}</tspan>') if text else Markup("")
        out.append(line)
    return [str(line) for line in out]


def cut(line: str) -> list[str]:
    """A long line as several, cut between words."""
    out = [""]
    for word in line.split(" "):
        if len(out[-1]) + len(word) > LETTERS:
            out.append("   ")
        out[-1] += f" {word}" if out[-1].strip() else word
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, default=Path(), help="where plots/ and data/ are")
    parser.add_argument("--question", default="Where was the author of Sacred Mountain born?")
    parser.add_argument("--out", type=Path, default=Path("docs/images/run.svg"))
    args = parser.parse_args()
    made = picture(args.root / "plots/curves.csv", args.root / "data/evaluation/stage2/held_out.parquet", args.question)
    write_text(args.out, made)


if __name__ == "__main__":
    main()
