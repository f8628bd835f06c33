"""Comparison of two evaluated policies: the verdict, its evidence, and the questions that flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from r1_searcher import params as contract
from r1_searcher.statistics.pairs import Pair
from r1_searcher.statistics.verdict import Change, Rule, Verdict, overall, verdicts

_UNCHANGED = Change(0.0, 0.0, 0.0, "same", None)
_FLIP = 0.5  # a question flips if a metric changes by more than this


@dataclass(frozen=True)
class Finding:
    """One metric on one benchmark: both means, how many questions lost and won, and the change."""

    metric: str
    reference: float
    candidate: float
    lost: int
    won: int
    change: Change


@dataclass(frozen=True)
class Flip:
    """A question that only one policy answered well: the metrics lost or won, and both predictions."""

    question_id: str
    question: str
    answers: Sequence[str]
    reference: str | None
    candidate: str | None
    lost: Sequence[str]
    won: Sequence[str]


@dataclass(frozen=True)
class Compared:
    """The comparison on one benchmark."""

    benchmark: str
    n: int
    findings: Sequence[Finding]
    flips: Sequence[Flip]
    apart: Sequence[str]  # lines in which the cards differ
    identical: bool
    lost: tuple[int, int] = (0, 0)  # questions of reference and candidate lost to failed searches or tools


@dataclass(frozen=True)
class Comparison:
    """A whole comparison. ``names``: reference and candidate, for a reader."""

    names: tuple[str, str]
    verdict: Verdict
    rule: Rule
    benchmarks: Sequence[Compared]

    def called(self, reference: str, candidate: str) -> Comparison:
        """Return the same under other names."""
        return replace(self, names=(reference, candidate))

    @property
    def enough(self) -> int | None:
        """About how many questions per benchmark would decide, if undecided."""
        return (
            max((finding.change.enough or 0 for part in self.benchmarks for finding in part.findings), default=0)
            or None
        )

    @property
    def headline(self) -> str:
        """The result in one line."""
        reference, candidate = self.names
        said = {
            "worse": f"worse: {candidate} is worse than {reference}",
            "better": f"better: {candidate} is better than {reference}",
            "same": f"same: {candidate} and {reference} differ by less than the margin",
            "cannot tell": f"cannot tell at this size whether {candidate} differs from {reference}",
        }[self.verdict]
        told = [
            f"{part.benchmark} {finding.metric}"
            for part in self.benchmarks
            for finding in part.findings
            if finding.change.verdict == self.verdict
        ]
        if all(part.identical for part in self.benchmarks):
            return f"same: the weights and the answers of {candidate} are those of {reference}"
        if self.verdict in ("worse", "better"):
            return f"{said} ({', '.join(told)})"
        if self.verdict == "cannot tell":
            return f"{said} (about {self.enough:,} questions per benchmark would decide)"
        return said


def compare(pairs: Sequence[Pair], params: contract.Regression, names: tuple[str, str]) -> Comparison:
    """Return the verdict on paired answers; all metrics of all pairs are one family."""
    rule = Rule(params.margin, params.confidence, params.worse_share)
    family = [pair.candidate_values - pair.reference_values for pair in pairs]
    weights = [[params.metrics[metric] for metric in pair.metrics] for pair in pairs]
    judged = verdicts(family, rule, weights=weights)
    parts = [
        _compared(pair, table, [_UNCHANGED] * len(changes) if pair.identical else changes)
        for pair, table, changes in zip(pairs, family, judged, strict=True)
    ]
    all_verdicts = [finding.change.verdict for part in parts for finding in part.findings]
    return Comparison(names, overall(all_verdicts), rule, parts)


def _compared(pair: Pair, moved: np.ndarray, changes: Sequence[Change]) -> Compared:
    findings = [
        Finding(
            metric=metric,
            reference=float(pair.reference_values[:, place].mean()),
            candidate=float(pair.candidate_values[:, place].mean()),
            lost=int((moved[:, place] < 0).sum()),
            won=int((moved[:, place] > 0).sum()),
            change=changes[place],
        )
        for place, metric in enumerate(pair.metrics)
    ]
    flips = [
        Flip(
            question_id=row["question_id"],
            question=row["question"],
            answers=row["answers"],
            reference=row["prediction"],
            candidate=other["prediction"],
            lost=[name for name, value in zip(pair.metrics, values, strict=True) if value < -_FLIP],
            won=[name for name, value in zip(pair.metrics, values, strict=True) if value > _FLIP],
        )
        for row, other, values in zip(pair.reference, pair.candidate, moved, strict=True)
        if (np.abs(values) > _FLIP).any()
    ]
    flips.sort(key=lambda flip: not flip.lost)  # losses first; stable
    return Compared(pair.benchmark, len(pair.reference), findings, flips, pair.apart, pair.identical, pair.lost)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values."""
    return {
        "verdict": comparison.verdict,
        "reference": comparison.names[0],
        "candidate": comparison.names[1],
        "margin": comparison.rule.margin,
        "confidence": comparison.rule.confidence,
        "worse_share": comparison.rule.worse_share,
        "questions_that_would_tell": comparison.enough,
        "benchmarks": {part.benchmark: _part(part) for part in comparison.benchmarks},
    }


def _part(part: Compared) -> dict[str, Any]:
    return {
        "n": part.n,
        "protocol_differences": list(part.apart),
        "same_weights_and_answers": part.identical,
        "metrics": {
            finding.metric: {
                "reference": finding.reference,
                "candidate": finding.candidate,
                "difference": finding.change.difference,
                "interval": [finding.change.low, finding.change.high],
                "lost": finding.lost,
                "won": finding.won,
                "verdict": finding.change.verdict,
                "questions_that_would_tell": finding.change.enough,
            }
            for finding in part.findings
        },
        "flipped": [
            {
                "question_id": flip.question_id,
                "question": flip.question,
                "answers": list(flip.answers),
                "reference_prediction": flip.reference,
                "candidate_prediction": flip.candidate,
                "lost": list(flip.lost),
                "won": list(flip.won),
            }
            for flip in part.flips
        ],
    }
