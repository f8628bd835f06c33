"""`compare`: the verdict on a candidate against a reference, printed and written, and the exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError, Refused
from r1_searcher.files.artefacts import write_text
from r1_searcher.shown import json_text, printable, show, show_lines, terminal_width
from r1_searcher.statistics.comparison import Comparison, as_json, compare
from r1_searcher.statistics.pairs import pair_policies, read_evaluated
from r1_searcher.statistics.verdict import Verdict
from r1_searcher.statistics.verdict_page import lines, no_verdict, page

WORSE, CANNOT_TELL = 1, 3  # exit statuses; 2 is an error


def exit_status(verdict: Verdict, *, strict: bool = False) -> int:
    """Return 1 if worse, 3 if undecided and ``strict``, else 0."""
    if verdict == "worse":
        return WORSE
    return CANNOT_TELL if strict and verdict == "cannot tell" else 0


def changed(params: contract.Regression, margin: float | None, confidence: float | None) -> contract.Regression:
    """Return the parameters with the given margin and confidence, if any. Raises ``PipelineError`` if out of range."""
    if margin is not None and not 0 < margin < 1:
        raise PipelineError("must lie between 0 and 1", where=f"--margin {margin:g}")
    if confidence is not None and not 0.5 <= confidence <= 0.9999:
        raise PipelineError("must lie between 0.5 and 0.9999", where=f"--confidence {confidence:g}")
    given = {"margin": margin, "confidence": confidence}
    return params.model_copy(update={name: value for name, value in given.items() if value is not None})


def compare_evaluations(
    reference: Path | str,
    candidate: Path | str,
    params: contract.Regression | None = None,
    *,
    benchmarks: Sequence[str] = (),
    even_so: bool = False,
) -> Comparison:
    """Compare the policy of ``candidate`` with that of ``reference``, question by question: better, same or worse?

    Args:
        reference: a folder with one Parquet file per benchmark, as `evaluate` writes it, or one such file.
        candidate: the same, of the other policy.
        params: metrics with their weights, margin and confidence; None: the default ones.
        benchmarks: only these; empty: all.
        even_so: compare although the protocol cards differ.

    Raises ``Refused`` if the cards differ, ``PipelineError`` for what cannot be read or paired.
    """
    chosen = params or contract.shipped().regression
    names = (str(reference), str(candidate))
    pairs = pair_policies(
        read_evaluated(Path(reference)),
        read_evaluated(Path(candidate)),
        [*chosen.metrics],
        names=names,
        benchmarks=benchmarks,
        even_so=even_so,
    )
    return compare(pairs, chosen, names)


def run(options: argparse.Namespace) -> int:
    """Compare, print the result, and return the exit status."""
    params = changed(contract.load_or_shipped(options.params).regression, options.margin, options.confidence)
    try:
        comparison = compare_evaluations(
            options.reference, options.candidate, params, benchmarks=options.benchmark, even_so=options.even_so
        )
    except Refused as refused:
        if options.markdown is not None:
            write_text(options.markdown, no_verdict("Regression", "refused", str(refused)))
        raise
    warn(comparison)
    if options.markdown is not None:
        write_text(options.markdown, page(comparison))
    show_lines(json_text(as_json(comparison)) if options.json else lines(comparison, width=terminal_width()))
    return exit_status(comparison.verdict, strict=options.strict)


def warn(comparison: Comparison) -> None:
    """Warn on stderr if different protocols were compared, or lost questions were counted as wrong."""
    for part in comparison.benchmarks:
        if any(part.lost):
            show(
                f"WARNING: of {printable(part.benchmark)}'s {part.n} questions, {part.lost[0]} of the reference and "
                f"{part.lost[1]} of the candidate were lost to failed searches or tools and count as wrong",
                file=sys.stderr,
            )
        if part.apart:
            show(
                f"WARNING: {printable(part.benchmark)} was measured under two protocols and compared anyway: "
                f"{printable('; '.join(part.apart))}",
                file=sys.stderr,
            )
