"""The gates' results for readers: Markdown for a pull request or a run's page, lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher import tables
from r1_searcher.regression.code import CodeResult
from r1_searcher.regression.figures import FIGURES
from r1_searcher.regression.processor import named
from r1_searcher.regression.recipe import RecipeResult
from r1_searcher.regression.seeds import ERROR, SeedChange
from r1_searcher.shown import markdown, printable
from r1_searcher.statistics.verdict_page import lines as comparison_lines
from r1_searcher.statistics.verdict_page import page as comparison_page

_SHOWN = 10  # changed transcripts
_MARKS = {
    "worse": "❌ worse",
    "changed": "❌ changed",
    "too few": "❔ too few seeds",
    "better": "✅ better",
    "same": "✅ same",
    "not worse": "✅ not worse",
    "no loss found": "✅ no loss found",
}
_HEADINGS = ("committed", "now", "difference", "interval")  # of ``_cells``
# Exit statuses, the gravest first; 3 is "cannot tell" of `compare --strict`.
EXIT_STATUSES = {"worse": 1, "changed": 5, "error": 2, "refused": 4}


def exit_status(verdicts: Sequence[str]) -> int:
    """Return the status of the gravest verdict: worse, changed, an error, refused; else 0."""
    return next((status for verdict, status in EXIT_STATUSES.items() if verdict in verdicts), 0)


def code_headline(found: CodeResult) -> str:
    """Return the code gate's result in one line."""
    equal = f"{found.asked - len(found.changed):,} of {found.asked:,} transcripts are unchanged"
    if found.same_kind:
        place = f"on the same kind of processor ({named(found.kind)})"
    else:
        place = f"on another kind of processor ({named(found.kind)}; the baseline: {named(found.baseline_kind)})"
    return printable(f"code gate: {found.verdict}: {equal}, {place}")


def code_lines(found: CodeResult) -> str:
    """Return the headline and, if something differs, the first transcripts and the paired verdict."""
    said = [code_headline(found), *_new_searches(found)]
    for row in found.changed[:_SHOWN]:
        asked = printable(f"{row.benchmark} {row.question_id}")
        said += [
            f"{asked} was: {row.was!r}",
            f"{asked} now: {row.now!r}",
        ]
    if found.changed:
        said += ["", comparison_lines(found.comparison)]
    return "\n".join(said)


def code_markdown(found: CodeResult) -> str:
    """Return the same as Markdown."""
    blocks = [
        f"## Code gate: {_MARKS[found.verdict]}",
        f"{markdown(code_headline(found), longest=None)}.",
        *_new_searches(found),
    ]
    if found.changed:
        rows = [[row.benchmark, row.question_id, row.was, row.now] for row in found.changed[:_SHOWN]]
        blocks.append(tables.markdown(("benchmark", "question", "was", "now"), rows, left=range(4)))
        blocks.append(comparison_page(found.comparison, title="### Paired verdict"))
    return "\n\n".join(blocks) + "\n"


def recipe_headline(found: RecipeResult) -> str:
    """Return the recipe gate's result in one line."""
    runs = f"{len(found.seeds)} runs against {found.committed} committed ones"
    if found.verdict == "same":
        return (
            f"recipe gate: same: the figures of all {len(found.seeds)} runs match the committed ones to the last digit"
        )
    if found.verdict == "too few":
        return f"recipe gate: too few seeds: {runs}; {found.least_seeds} at least can tell"
    told = [change.figure for change in found.changes if change.verdict == found.verdict != "no loss found"]
    what = f" ({', '.join(told)})" if told else ""
    return f"recipe gate: {found.verdict}: {runs}{what}"


def recipe_lines(found: RecipeResult) -> str:
    """Return the headline and one line per figure."""
    rows = [[change.figure, *_cells(change), change.verdict] for change in found.changes]
    table = [tables.text([("figure", *_HEADINGS, "verdict"), *rows], left=(0, 5))] if rows else []
    return "\n".join([recipe_headline(found), *table, _summary_sentence(found)])


def recipe_markdown(found: RecipeResult) -> str:
    """Return the same as Markdown."""
    rows = [
        [change.figure, FIGURES[change.figure], *_cells(change), _MARKS[change.verdict]] for change in found.changes
    ]
    table = tables.markdown(("figure", "", *_HEADINGS, ""), rows, left=(0, 1, 6))
    return (
        "\n\n".join(
            [
                f"## Recipe gate: {_MARKS[found.verdict]}",
                f"{markdown(recipe_headline(found), longest=None)}.",
                table,
                _summary_sentence(found),
            ]
        )
        + "\n"
    )


def unasked_line(gate: str, word: str, why: str) -> str:
    """Return a gate without a verdict in one line: it was ``refused``, or an ``error`` ended it."""
    return printable(f"{gate.lower()}: {word}: {why}")


def _cells(change: SeedChange) -> list[str]:
    interval = f"{change.low:+.3f} to {change.high:+.3f}"
    return [f"{change.reference:+.3f}", f"{change.candidate:+.3f}", f"{change.difference:+.3f}", interval]


def _summary_sentence(found: RecipeResult) -> str:
    unchanged = f"{len(found.unchanged)} of {len(found.seeds)} seeds match their committed figures to the last digit."
    return (
        f"{unchanged} Permutation test over seeds; if only chance differs, at most {100 * ERROR:g} % of "
        "changes are called worse, over all figures together. A loss within the intervals is not detected."
    )


def _new_searches(found: CodeResult) -> list[str]:
    if not found.new_searches:
        return []
    return [f"{found.new_searches} searches were not recorded and ran on an index of the baseline's passages."]
