"""Are these training runs worse than those? A permutation test over seeds, with intervals (numpy alone).

Two groups of runs, each a seed with several figures for which more is better. If only chance differs, the runs of both
are exchangeable: each might have been in either group. So groups of the same sizes are drawn from all runs, recording
the largest two-sample t statistic of all figures each time. A figure is called worse (better) if its own t exceeds
these maxima. Whatever the figures' correlations and distributions, worse is then said in at most ``error`` of such
comparisons, and better likewise (Westfall and Young 1993, max-T). The maxima's quantiles are the factors of the
simultaneous intervals of the mean differences.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r1_searcher.types.arrays import Floats

SeedVerdict = Literal["worse", "better", "no loss found"]

ERROR = 0.01  # of "worse", and as much for "better"
DRAWS = 9999  # of groups, if there are too many to draw all
_SEED = 20250307


@dataclass(frozen=True)
class SeedChange:
    """One figure: means of both groups, their difference with its interval, and the verdict."""

    figure: str
    reference: float
    candidate: float
    low: float
    high: float
    verdict: SeedVerdict

    @property
    def difference(self) -> float:
        """Candidate minus reference."""
        return self.candidate - self.reference


def seed_verdicts(
    figures: Sequence[str], reference: ArrayLike, candidate: ArrayLike, *, error: float = ERROR, draws: int = DRAWS
) -> list[SeedChange]:
    """Return one change per figure; ``reference`` (N, M) and ``candidate`` (K, M) are runs by figures.

    If there are so few runs that even the rarest group is more frequent than ``error``, the intervals are infinite and
    nothing is called worse. Raises ``ValueError`` for tables of other shapes, too few runs, and non-finite values.
    """
    one, other = _table(reference, len(figures)), _table(candidate, len(figures))
    if len(one) < 2 or len(other) < 1:
        raise ValueError("two runs are needed in the reference, and one in the candidate")
    runs = np.concatenate([one, other]) - one.mean(axis=0)  # small numbers: sums of squares stay exact enough
    groups = drawn_groups(len(runs), len(other), draws)
    scores, widths = t_scores(runs, groups)
    seen, width = scores[0], widths[0]
    ranks = math.floor(error * len(groups) + 1e-9)
    lower, upper = _factor((-scores).max(axis=1), ranks), _factor(scores.max(axis=1), ranks)
    means, others = one.mean(axis=0), other.mean(axis=0)
    return [
        SeedChange(
            figure=name,
            reference=float(means[place]),
            candidate=float(others[place]),
            low=_end(others[place] - means[place], -upper, width[place]),
            high=_end(others[place] - means[place], lower, width[place]),
            verdict=_verdict(seen[place], lower, upper),
        )
        for place, name in enumerate(figures)
    ]


def drawn_groups(total: int, size: int, draws: int, seed: int = _SEED) -> NDArray[np.int64]:
    """Return groups (G, ``size``) of ``total`` runs, beginning with the last ``size`` runs: all groups, or that one
    plus ``draws`` random ones."""
    own = np.arange(total - size, total)
    if math.comb(total, size) <= draws + 1:
        every = [group for group in itertools.combinations(range(total), size) if group != tuple(own)]
        return np.array([own, *every], dtype=np.int64).reshape(-1, size)
    generator = np.random.default_rng(seed)
    chance = generator.random((draws, total)).argsort(axis=1)[:, :size]
    return np.concatenate([own[None], chance])


def t_scores(runs: Floats, groups: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the two-sample t of each group against the other runs (G, M), and the standard error of its difference (G,
    M)."""
    size, rest = groups.shape[1], len(runs) - groups.shape[1]
    sums = runs[groups].sum(axis=1)
    others = runs.sum(axis=0) - sums
    squares = np.square(runs).sum(axis=0) - np.square(sums) / size - np.square(others) / rest
    variance = np.maximum(squares, 0.0) / max(1, len(runs) - 2)
    widths = np.sqrt(variance * (1 / size + 1 / rest))
    difference = sums / size - others / rest
    tiny = 1e-12 * (1.0 + np.abs(runs).max(axis=0))  # rounding is not a difference
    difference = np.where(np.abs(difference) <= tiny, 0.0, difference)
    widths = np.maximum(widths, tiny)
    return difference / widths, widths


def _factor(maxima: Floats, ranks: int) -> float:
    """Return what at most ``ranks`` of the maxima exceed; infinite if none may."""
    return math.inf if ranks < 1 else float(np.sort(maxima)[::-1][ranks])


def _end(difference: float, factor: float, width: float) -> float:
    return float(difference + factor * width)


def _verdict(score: float, lower: float, upper: float) -> SeedVerdict:
    if -score > lower:
        return "worse"
    return "better" if score > upper else "no loss found"


def _table(values: ArrayLike, width: int) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != width:
        raise ValueError(f"runs are (runs, {width} figures), not {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("a figure is not finite")
    return table
