"""A comparison for readers: Markdown for a pull request or a run's page, and plain lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from r1_searcher import tables
from r1_searcher.shown import code_span, markdown, printable
from r1_searcher.statistics.comparison import Compared, Comparison, Finding, Flip

SHOWN_FLIPS = 20  # per benchmark; all of them are in the JSON
_MARKS = {"better": "✅ better", "same": "✅ same", "worse": "❌ worse", "cannot tell": "❔ cannot tell"}
_HEADINGS = tuple(
    "benchmark, metric, questions, A, B, difference, interval, lost, won, verdict, would tell".split(", ")
)
_TEXTS = (0, 1, 9)  # the columns that are not figures


def page(comparison: Comparison, *, title: str = "## Regression") -> str:
    """Return the verdict under a ``title``, a table of the metrics, and the questions that flipped."""
    rule = comparison.rule
    blocks = [f"{title}: {_MARKS[comparison.verdict]}", f"{markdown(comparison.headline, longest=None)}."]
    for part in comparison.benchmarks:
        name = markdown(part.benchmark)
        if part.apart:
            apart = "".join(f"\n> - {markdown(line)}" for line in part.apart)
            blocks.append(f"> [!WARNING]\n> **Measured under two protocols and compared anyway:** {name}{apart}")
        if part.identical:
            blocks.append(f"{name}: the same weights gave the same answers.")
    rows = [_cells(part, finding, _MARKS) for part in comparison.benchmarks for finding in part.findings]
    blocks.append(tables.markdown(_HEADINGS, rows, left=_TEXTS))
    blocks.append(
        f"A is {code_span(comparison.names[0])}, B is {code_span(comparison.names[1])}. Points of 100. Margin "
        f"{100 * rule.margin:g} points, confidence {100 * rule.confidence:g} % over all rows together "
        "(sign-flip permutation, paired by question). *Would tell*: about how many questions would decide."
    )
    blocks += [_flips_section(part) for part in comparison.benchmarks if part.flips]
    return "\n\n".join(blocks) + "\n"


def no_verdict(title: str, word: str, why: str) -> str:
    """Return the page for a missing verdict: it was refused, or an error ended what it needs."""
    return f"## {title}: ⛔ {word}\n\nNo verdict: nothing was compared.\n\n{markdown(why, longest=None)}\n"


def _cells(part: Compared, finding: Finding, words: Mapping[str, str]) -> list[str]:
    change = finding.change
    return [
        part.benchmark,
        finding.metric,
        f"{part.n:,}",
        f"{100 * finding.reference:.1f}",
        f"{100 * finding.candidate:.1f}",
        f"{100 * change.difference:+.1f}",
        f"{100 * change.low:+.1f} to {100 * change.high:+.1f}",
        str(finding.lost),
        str(finding.won),
        words.get(change.verdict, change.verdict),
        "" if change.enough is None else f"{change.enough:,}",
    ]


def _flips_section(part: Compared) -> str:
    lost = sum(bool(flip.lost) for flip in part.flips)
    title = f"{part.benchmark}: {len(part.flips)} questions flipped, {lost} of them lost"
    rows = [_flip(flip) for flip in shown_flips(part.flips)]
    more = len(part.flips) - len(rows)
    rest = f"\n\n{more} more are in the output of `--json`." if more else ""
    table = tables.markdown(("question", "gold", "A", "B", "lost", "won"), rows, left=range(6))
    return f"<details><summary>{markdown(title)}</summary>\n\n{table}{rest}\n\n</details>"


def shown_flips(flips: Sequence[Flip]) -> list[Flip]:
    """Return at most ``SHOWN_FLIPS``: losses first, but half of them wins if there are enough."""
    lost = [flip for flip in flips if flip.lost]
    won = [flip for flip in flips if not flip.lost]
    kept = lost[: max(SHOWN_FLIPS // 2, SHOWN_FLIPS - len(won))]
    return kept + won[: SHOWN_FLIPS - len(kept)]


def _flip(flip: Flip) -> list[str]:
    return [
        flip.question,
        " / ".join(flip.answers),
        "(no answer)" if flip.reference is None else flip.reference,
        "(no answer)" if flip.candidate is None else flip.candidate,
        ", ".join(flip.lost),
        ", ".join(flip.won),
    ]


def lines(comparison: Comparison, *, width: int | None = None) -> str:
    """Return the verdict, the same table without Markdown, and the first questions that flipped."""
    rows = [_cells(part, finding, {}) for part in comparison.benchmarks for finding in part.findings]
    said = [tables.text([_HEADINGS, *rows], left=_TEXTS, width=width)]
    for part in comparison.benchmarks:
        if part.identical:
            said.append(f"{printable(part.benchmark)}: the same weights gave the same answers")
        for flip in shown_flips(part.flips):
            what = f"lost {', '.join(flip.lost)}" if flip.lost else f"won {', '.join(flip.won)}"
            where = printable(f"{part.benchmark} {flip.question_id}")
            said.append(f"{where} {what}: {flip.reference!r} -> {flip.candidate!r}")
    return "\n".join([printable(comparison.headline), "", *said])
