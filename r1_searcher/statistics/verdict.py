"""Better, same, worse, or cannot tell: a verdict from paired answers of two policies (numpy alone).

Both policies answered the same questions. d = b − a is a question's difference in a metric of [0, 1]; a *family* is all
differences that one verdict covers: several metrics, several benchmarks.

Errors. If a and b are two samplings of one policy, all of a question's differences may change sign together without
changing their distribution. So signs are flipped at random many times, recording the largest standardised mean of the
family each time. A policy is called worse (better) if it exceeds these maxima. This is exact for any number of
questions, however the metrics are correlated (Westfall and Young 1993, max-T). With weights the maximum is that of log
weight − log p of the normal distribution: a metric of weight 0.25 gets a quarter of the error of a metric of weight 1.

Intervals. The maxima's quantiles, never below those of a normal distribution, are the factors of the simultaneous
intervals of all mean differences. c² / 2 questions lost and as many won are added to the data, as Agresti and Coull
(1998) do for a proportion: otherwise no loss in 20 questions would prove that nothing is ever lost. An interval that
excludes zero is always one that the sign flips reject too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from r1_searcher.types.arrays import Floats

Verdict = Literal["better", "same", "worse", "cannot tell"]

_SEED = 20250307
_RESAMPLES = 4999
POWER = 0.8  # how often the stated number of questions suffices
_TAIL = 50  # at least so many sign flips beyond a critical value
_GRAIN = 2.0**20  # differences are rounded to 1/GRAIN, so that sums are exact in any order
_ROWS = 1000  # kinds of rows in memory at once


@dataclass(frozen=True)
class Rule:
    """The rule of a verdict.

    ``margin``: the largest change that does not matter. Two samplings of one policy are called better or worse with a
    probability of at most 1 − ``confidence``; ``worse_share`` of it is spent on "worse".
    """

    margin: float
    confidence: float
    worse_share: float

    @property
    def tails(self) -> tuple[float, float]:
        """Error rates of "worse" and of "better"."""
        error = 1.0 - self.confidence
        return error * self.worse_share, error * (1.0 - self.worse_share)


@dataclass(frozen=True)
class Change:
    """One metric on one benchmark: mean difference, interval, verdict and, if undecided, about how many questions would
    decide it."""

    difference: float
    low: float
    high: float
    verdict: Verdict
    enough: int | None


def verdicts(
    family: Sequence[ArrayLike], rule: Rule, *, weights: Sequence[Sequence[float]] | None = None, seed: int = _SEED
) -> list[list[Change]]:
    """Return, per benchmark of ``family``, one ``Change`` per metric; each benchmark is (questions, metrics) of d.

    ``weights``: per benchmark each metric's share of the error; default equal. Raises ``ValueError`` for a benchmark
    without questions and for a difference outside [−1, 1].
    """
    tables = [_checked(values) for values in family]
    shares = [np.ones(table.shape[1]) for table in tables] if weights is None else [np.array(w) for w in weights]
    factors = critical_values(tables, rule, shares, seed=seed)
    return [
        [_change(table[:, place], rule, (upper[place], lower[place])) for place in range(table.shape[1])]
        for table, (upper, lower) in zip(tables, factors, strict=True)
    ]


def overall(changes: Sequence[Verdict]) -> Verdict:
    """Return worse if anything is worse, else better if anything is better; same if all are."""
    for verdict in ("worse", "better", "cannot tell"):
        if verdict in changes:
            return verdict
    return "same"


def critical_values(
    tables: Sequence[Floats], rule: Rule, weights: Sequence[Floats], *, seed: int = _SEED
) -> list[tuple[Floats, Floats]]:
    """Return each benchmark's factors of the upper and lower ends, (M,) each: the family's maximum exceeds them with
    the rule's two error rates. A mean more than the first (second) factor of standard errors below (above) zero is
    worse (better)."""
    resamples = max(_RESAMPLES, math.ceil(_TAIL / min(rule.tails)))
    generator = np.random.default_rng(seed)
    logs = [np.log(share / max(map(np.max, weights))) for share in weights]
    highest = np.full(resamples, -np.inf)  # by symmetry the lowest have the same distribution
    for table, log in zip(tables, logs, strict=True):
        highest = np.maximum(highest, _flipped_maxima(table, log, resamples, generator))
    highest.sort()

    def factors(tail: float, log: Floats) -> Floats:
        rank = math.floor(tail * (resamples + 1) + 1e-9)  # at this rank: p = (1 + number as high) / (1 + resamples)
        return np.maximum(_deviate(highest[-rank] - log), NormalDist().inv_cdf(1.0 - tail))

    worse, better = rule.tails
    return [(factors(worse, log), factors(better, log)) for log in logs]


_DEVIATES = np.arange(-8.0, 37.0, 0.005)
_SURPRISES = np.array([-math.log(0.5 * math.erfc(deviate / math.sqrt(2.0))) for deviate in _DEVIATES])


def _surprise(deviate: Floats) -> Floats:
    """Return −log of the normal distribution's upper tail, by interpolation."""
    found: Floats = np.interp(deviate, _DEVIATES, _SURPRISES)
    return found


def _deviate(surprise: Floats) -> Floats:
    """Invert ``_surprise``."""
    found: Floats = np.interp(surprise, _SURPRISES, _DEVIATES)
    return found


def standardised(table: Floats) -> Floats:
    """Return Σd / √Σd² of each column (M,); 0 if nothing differs. Flipping signs does not change the denominator."""
    found: Floats = table.sum(axis=0) / np.sqrt(_squares(table))
    return found


def _flipped_maxima(table: Floats, logs: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Return the largest log weight − log p of the columns under ``resamples`` random flips of whole rows (R,).

    Rows that are equal up to sign are flipped together: their signs sum to a binomial number.
    """
    moved = table[(table != 0).any(axis=1)]  # flipping a zero does nothing
    first = np.take_along_axis(moved, (moved != 0).argmax(axis=1)[:, None], axis=1)
    rows, counts = np.unique(moved * np.sign(first), axis=0, return_counts=True)
    sums = np.zeros((resamples, table.shape[1]))
    for start in range(0, len(rows), _ROWS):
        block = counts[start : start + _ROWS]
        heads = np.stack([generator.binomial(count, 0.5, size=resamples) for count in block], axis=1)  # (R, rows)
        sums += (2.0 * heads - block) @ rows[start : start + _ROWS]
    maxima: Floats = (_surprise(sums / np.sqrt(_squares(moved))) + logs).max(axis=1)
    return maxima


def _squares(table: Floats) -> Floats:
    """Return Σd² of each column, 1 if it is 0."""
    squares = np.square(table).sum(axis=0)
    return np.where(squares == 0, 1.0, squares)


def _change(values: Floats, rule: Rule, factors: tuple[float, float]) -> Change:
    low, high = interval(values, factors)
    verdict: Verdict = "cannot tell"
    if -rule.margin <= low and high <= rule.margin:
        verdict = "same"
    elif high < 0:
        verdict = "worse"
    elif low > 0:
        verdict = "better"
    told = None if verdict != "cannot tell" else enough(values, rule.margin, factors)
    return Change(float(values.mean()), low, high, verdict, told)


def interval(values: Floats, factors: tuple[float, float]) -> tuple[float, float]:
    """Return lower and upper end for the mean of ``values`` (N,); ``factors``: of the upper and of the lower end."""
    upper, lower = factors
    return max(-1.0, _end(values, lower, -1)), min(1.0, _end(values, upper, 1))


def _end(values: Floats, factor: float, direction: int) -> float:
    size = values.size + factor**2
    mean = float(values.sum()) / size
    variance = (float(np.square(values).sum()) + factor**2) / size - mean**2
    return mean + direction * factor * math.sqrt(variance / size)


def enough(values: Floats, margin: float, factors: tuple[float, float]) -> int:
    """Return about how many questions would decide, to two digits.

    With the spread seen here, an unchanged policy would then be called the same, and one that lost the margin worse,
    each with probability ``POWER``.
    """
    factor = max(factors)
    spread = (float(np.square(values).sum()) + 1.0) / (values.size + 1.0) - float(values.mean()) ** 2  # one more flip
    power = NormalDist().inv_cdf((1.0 + POWER) / 2.0)  # both ends must lie within
    # Half-width of the interval plus the mean's own scatter; the added questions alone need factor² / margin.
    size = ((factor + power) / margin) ** 2 * max(spread, 0.0) + factor**2 / margin
    digits: int = 10 ** max(0, math.floor(math.log10(size)) - 1)
    return math.ceil(size / digits) * digits


def _checked(values: ArrayLike) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] == 0:
        raise ValueError("differences are (questions, metrics), with one question at least")
    if not (np.abs(table) <= 1).all():
        raise ValueError("a difference lies outside of [-1, 1]")
    return np.rint(table * _GRAIN) / _GRAIN
