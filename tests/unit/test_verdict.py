"""The verdict's statistics: error rates by simulation, the sign flips against the exact sign test, bad sizes."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.statistics.verdict import (
    Rule,
    critical_values,
    enough,
    interval,
    overall,
    standardised,
    verdicts,
)

RULE = Rule(margin=0.02, confidence=0.95, worse_share=0.8)


def trinomial(generator: np.random.Generator, n: int, lost: float, won: float) -> np.ndarray:
    """Differences (n, 1): −1 with probability ``lost``, +1 with ``won``, else 0."""
    draw = generator.random((n, 1))
    return np.where(draw < lost, -1.0, np.where(draw < lost + won, 1.0, 0.0))


def said(tables: list[np.ndarray], rule: Rule = RULE) -> str:
    return overall([change.verdict for part in verdicts(tables, rule) for change in part])


def shares(repeats: int, n: int, lost: float, won: float) -> dict[str, float]:
    generator = np.random.default_rng(7)
    counts = Counter(said([trinomial(generator, n, lost, won)]) for _ in range(repeats))
    return {verdict: count / repeats for verdict, count in counts.items()}


def test_two_samplings_of_one_policy_are_seldom_called_better_or_worse() -> None:
    """Three standard errors of 400 repeats at 5 % are 3.3 points; benchmarks/verdict.py has the narrow figures."""
    found = shares(400, 120, 0.08, 0.08)
    assert found.get("worse", 0) + found.get("better", 0) <= 0.05 + 0.033


def test_a_loss_of_five_points_is_called_worse() -> None:
    assert shares(300, 500, 0.10, 0.05)["worse"] >= 0.80 - 0.07


@pytest.mark.slow
def test_several_metrics_and_benchmarks_are_one_family() -> None:
    generator = np.random.default_rng(8)
    counts = Counter(
        said([np.hstack([trinomial(generator, 80, 0.1, 0.1) for _ in range(4)]) for _ in range(3)]) for _ in range(200)
    )
    assert (counts["worse"] + counts["better"]) / 200 <= 0.05 + 0.046
    ((one, _),) = critical_values([trinomial(generator, 300, 0.1, 0.1)], RULE, [np.ones(1)])
    six = np.hstack([trinomial(generator, 300, 0.1, 0.1) for _ in range(6)])
    ((many, _),) = critical_values([six], RULE, [np.ones(6)])
    assert many.shape == (6,) and (many > one + 0.3).all()


def test_a_light_metric_gets_its_part_of_the_error() -> None:
    """Two independent metrics: with weights 1 and 0.25 their tails stand 4 to 1, and add up to the rule's."""
    generator = np.random.default_rng(10)
    table = np.hstack([trinomial(generator, 2000, 0.2, 0.2), trinomial(generator, 2000, 0.2, 0.2)])
    ((upper, lower),) = critical_values([table], RULE, [np.array([1.0, 0.25])])
    for factors, tail in ((upper, 0.04), (lower, 0.01)):
        heavy, light = (1 - NormalDist().cdf(factor) for factor in factors)
        assert heavy / light == pytest.approx(4, rel=0.02)
        assert heavy + light == pytest.approx(tail, rel=0.35)


def test_the_sign_flips_agree_with_all_signs_there_are() -> None:
    """Ten questions, two metrics: all 2^10 flips enumerated."""
    table = np.array([[1, 0.5], [1, 1], [-1, 0], [1, 0.25], [1, 0], [0, 1], [1, 1], [-1, -1], [1, 0.5], [1, 1]], float)
    maxima = sorted(standardised(np.array(signs)[:, None] * table).max() for signs in product((-1.0, 1.0), repeat=10))
    ((worse, better),) = critical_values([table], Rule(0.02, 0.5, 0.8), [np.ones(2)])  # tails of 0.4 and 0.1
    assert better == pytest.approx(maxima[math.ceil(0.9 * 1024) - 1], abs=0.15)
    assert worse == pytest.approx(maxima[math.ceil(0.6 * 1024) - 1], abs=0.15)


def test_same_needs_both_ends_within_the_margin() -> None:
    nothing = np.zeros((2000, 1))
    (change,) = verdicts([nothing], RULE)[0]
    assert change.verdict == "same" and -0.02 < change.low < 0 < change.high < 0.02
    (few,) = verdicts([nothing[:20]], RULE)[0]
    assert few.verdict == "cannot tell" and few.low < -0.1, "20 questions cannot rule out a loss of two points"


def test_a_difference_that_is_certain_and_too_small_to_matter_is_the_same() -> None:
    table = np.zeros((20_000, 1))
    table[:100] = -1  # half a point
    (change,) = verdicts([table], RULE)[0]
    assert change.high < 0 and change.verdict == "same"


def test_a_gain_is_better_and_a_mixed_family_is_worse() -> None:
    gain, loss = np.zeros((300, 1)), np.zeros((300, 1))
    gain[:40], loss[:40] = 1, -1
    assert said([gain]) == "better" and said([loss]) == "worse" and said([gain, loss]) == "worse"


def test_overall() -> None:
    assert overall(["same", "same"]) == "same"
    assert overall(["same", "cannot tell"]) == "cannot tell"
    assert overall(["better", "cannot tell"]) == "better"
    assert overall(["better", "worse"]) == "worse"


def test_the_told_number_of_questions_tells() -> None:
    generator = np.random.default_rng(9)
    first = trinomial(generator, 400, 0.05, 0.05)
    (change,) = verdicts([first], RULE)[0]
    assert change.verdict == "cannot tell" and change.enough is not None
    told = Counter(said([trinomial(generator, change.enough, 0.05, 0.05)]) for _ in range(60))
    assert told["same"] / 60 >= 0.65
    told = Counter(said([trinomial(generator, change.enough, 0.06, 0.04)]) for _ in range(60))  # lost the margin
    assert told["worse"] / 60 >= 0.65


def test_the_told_number_does_not_shrink_to_nothing() -> None:
    assert enough(np.zeros(20), 0.02, (1.75, 2.33)) >= 2.33**2 / 0.02


def test_same_seed_same_verdict() -> None:
    table = np.random.default_rng(3).uniform(-1, 1, (50, 3))
    assert verdicts([table], RULE) == verdicts([table.copy()], RULE)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([-1.0, -0.4, 0.0, 0.0, 0.3, 1.0]), min_size=1, max_size=60),
    st.floats(1.3, 4.0),
    st.floats(1.3, 4.0),
)
def test_an_interval_without_zero_is_a_rejection_and_holds_the_mean(
    values: list[float], upper: float, lower: float
) -> None:
    column = np.array(values)
    low, high = interval(column, (upper, lower))
    assert -1 <= low <= column.mean() <= high <= 1
    (standard,) = standardised(column[:, None])
    if high < 0:
        assert standard < -upper
    if low > 0:
        assert standard > lower


@pytest.mark.parametrize("bad", [np.zeros((0, 1)), np.zeros(3), np.full((2, 1), 1.5), np.full((2, 1), np.nan)])
def test_what_is_no_table_of_differences(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="difference"):
        verdicts([bad], RULE)
