"""The bootstrap against known properties of a binomial, and its fixed seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.statistics.bootstrap import intervals, resampled_means


def column(successes: int, total: int) -> np.ndarray:
    return np.array([1.0] * successes + [0.0] * (total - successes))[:, None]


def test_interval_of_a_binomial_is_the_normal_one() -> None:
    """n = 400, p = 0.3: mean ± 1.96 × sqrt(p (1 − p) / n) = 0.3 ± 0.0449, to the bootstrap's resolution of 1/400."""
    low, high = intervals(column(120, 400), resamples=4000)[0]
    assert low == pytest.approx(0.3 - 0.0449, abs=0.006)
    assert high == pytest.approx(0.3 + 0.0449, abs=0.006)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(3)
    draws = (generator.random((80, 150)) < 0.4).astype(float)  # 150 samples of size 80, as columns
    ends = intervals(draws, resamples=800)
    covered = np.mean((ends[:, 0] <= 0.4) & (0.4 <= ends[:, 1]))
    assert 0.88 <= covered <= 0.99


def test_same_seed_same_bits_and_another_seed_other_draws() -> None:
    values = np.random.default_rng(1).random((50, 3))
    assert np.array_equal(resampled_means(values), resampled_means(values))
    assert not np.array_equal(resampled_means(values, seed=1), resampled_means(values, seed=2))


def test_columns_share_their_draws() -> None:
    values = np.random.default_rng(2).random((30, 1))
    means = resampled_means(np.hstack([values, 1.0 - values]), resamples=50)
    assert np.allclose(means.sum(axis=1), 1.0)


def test_number_of_resamples_that_is_no_multiple_of_a_block() -> None:
    assert resampled_means(column(1, 2), resamples=257).shape == (257, 1)


def test_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no rows"):
        intervals(np.empty((0, 2)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40))
def test_ends_lie_in_order_and_within_the_values(values: list[float]) -> None:
    low, high = intervals(np.array(values)[:, None], resamples=120)[0]
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
