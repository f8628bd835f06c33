"""Percentile bootstrap intervals of a mean over questions (Efron 1979), with a fixed seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RESAMPLES = 2000
LEVEL = 0.95
_SEED = 20250307
_BLOCK = 100  # resamples held in memory at once: 100 × N counts


def resampled_means(values: ArrayLike, *, resamples: int = _RESAMPLES, seed: int = _SEED) -> NDArray[np.float64]:
    """Return means (R, M) of ``values`` (N, M) over ``resamples`` draws of N rows with replacement.

    All M columns share each draw, so that differences between columns stay paired. Raises ``ValueError`` without rows:
    a mean of nothing has no interval.
    """
    table = np.asarray(values, dtype=np.float64)
    assert table.ndim == 2, "values are (questions, metrics)"
    num_rows = table.shape[0]
    if num_rows == 0:
        raise ValueError("no rows to resample")
    generator = np.random.default_rng(seed)
    shares = np.full(num_rows, 1.0 / num_rows)
    means = []
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        counts = generator.multinomial(num_rows, shares, size=size)  # (size, N)
        # einsum without BLAS: the order of the sum must not depend on the number of threads
        means.append(np.einsum("rn,nm->rm", counts.astype(np.float64), table, optimize=False) / num_rows)
    return np.concatenate(means)  # (R, M)


def intervals(
    values: ArrayLike, *, level: float = LEVEL, resamples: int = _RESAMPLES, seed: int = _SEED
) -> NDArray[np.float64]:
    """Return lower and upper ends (M, 2) of the ``level`` intervals of the column means of ``values`` (N, M).

    If all values of a column are equal, the interval is a point: a bootstrap cannot know what it never saw, so 0 of n
    right does not prove a rate of 0. ``level`` is a fraction. Raises ``ValueError`` without rows.
    """
    means = resampled_means(values, resamples=resamples, seed=seed)
    tail = (1.0 - level) / 2.0
    ends: NDArray[np.float64] = np.quantile(means, [tail, 1.0 - tail], axis=0).T
    return ends
