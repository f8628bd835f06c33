"""`compare`: the verdict on a candidate against a reference, printed and written, and the exit status."""

from __future__ import annotations

import argparse
import sys

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError, Refused
from r1_searcher.files.artefacts import write_text
from r1_searcher.shown import json_text, printable, show, show_lines
from r1_searcher.statistics.comparison import Comparison, as_json, compare
from r1_searcher.statistics.pairs import pair_policies, read_evaluated
from r1_searcher.statistics.verdict import Verdict
from r1_searcher.statistics.verdict_page import lines, page, unasked

WORSE, CANNOT_TELL = 1, 3  # exit statuses; 2 is an error


def exit_status(verdict: Verdict, *, strict: bool = False) -> int:
    """0; 1 where worse; 3 where it cannot tell and that was asked to fail."""
    if verdict == "worse":
        return WORSE
    return CANNOT_TELL if strict and verdict == "cannot tell" else 0


def changed(params: contract.Regression, margin: float | None, confidence: float | None) -> contract.Regression:
    """The parameters with another margin or confidence, where one is given."""
    if margin is not None and not 0 < margin < 1:
        raise PipelineError("must lie between 0 and 1", where=f"--margin {margin:g}")
    if confidence is not None and not 0.5 <= confidence <= 0.9999:
        raise PipelineError("must lie between 0.5 and 0.9999", where=f"--confidence {confidence:g}")
    given = {"margin": margin, "confidence": confidence}
    return params.model_copy(update={name: value for name, value in given.items() if value is not None})


def run(options: argparse.Namespace) -> int:
    """Compare, print, and say by the exit status how it came out."""
    params = changed(contract.load_or_shipped(options.params).regression, options.margin, options.confidence)
    names = (str(options.reference), str(options.candidate))
    try:
        pairs = pair_policies(
            read_evaluated(options.reference),
            read_evaluated(options.candidate),
            [*params.metrics],
            names=names,
            benchmarks=options.benchmark,
            even_so=options.even_so,
        )
    except Refused as refused:
        if options.markdown is not None:
            write_text(options.markdown, unasked("Regression", "refused", str(refused)))
        raise
    comparison = compare(pairs, params, names)
    warn(comparison)
    if options.markdown is not None:
        write_text(options.markdown, page(comparison))
    show_lines(json_text(as_json(comparison)) if options.json else lines(comparison))
    return exit_status(comparison.verdict, strict=options.strict)


def warn(comparison: Comparison) -> None:
    """On stderr: that unlike protocols were compared."""
    for part in comparison.benchmarks:
        if part.apart:
            show(
                f"WARNING: {printable(part.benchmark)} was measured under two protocols, compared even so: "
                f"{printable('; '.join(part.apart))}",
                file=sys.stderr,
            )
