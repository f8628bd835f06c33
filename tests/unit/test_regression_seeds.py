"""The permutation test over seeds: against brute force, its error rate, and that an interval equals the test."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from r1_searcher.regression.seeds import drawn_groups, seed_verdicts, t_scores

NAMES = ["reward", "format"]


def runs(seed: int, number: int, shift: float = 0.0) -> np.ndarray:
    """Draw skewed, correlated figures."""
    generator = np.random.default_rng(seed)
    common = generator.exponential(1.0, (number, 1))
    return common + generator.exponential(1.0, (number, 2)) - [shift, 0.0]


def test_a_loss_is_worse_a_gain_is_better_and_only_in_its_figure() -> None:
    reference = runs(0, 24)
    worse = seed_verdicts(NAMES, reference, runs(1, 6, shift=9.0))
    assert [change.verdict for change in worse] == ["worse", "no loss found"]
    assert worse[0].high < 0 and worse[0].low < worse[0].difference < worse[0].high
    assert worse[0].difference == pytest.approx(runs(1, 6, shift=9.0)[:, 0].mean() - reference[:, 0].mean())
    gained, _ = seed_verdicts(NAMES, reference, runs(1, 6, -9.0))
    assert gained.verdict == "better"


def test_small_groups_are_all_drawn_and_the_p_value_is_that_of_brute_force() -> None:
    reference, candidate = runs(2, 7), runs(3, 3, shift=1.5)
    every = np.concatenate([reference, candidate])

    def score(group: tuple[int, ...]) -> float:
        rest = [place for place in range(10) if place not in group]
        a, b = every[list(group)], every[rest]
        pooled = (((a - a.mean(0)) ** 2).sum(0) + ((b - b.mean(0)) ** 2).sum(0)) / 8
        return float(((b.mean(0) - a.mean(0)) / np.sqrt(pooled * (1 / 3 + 1 / 7))).max())

    scores = [score(group) for group in itertools.combinations(range(10), 3)]
    seen = score((7, 8, 9))
    p = sum(value >= seen - 1e-9 for value in scores) / math.comb(10, 3)
    assert 1 / 120 < p < 0.5
    assert len(drawn_groups(10, 3, 9999)) == 120
    for error, worse in ((p - 1e-6, False), (p + 1e-6, True)):
        said = [change.verdict for change in seed_verdicts(NAMES, reference, candidate, error=error)]
        assert ("worse" in said) is worse


def test_chance_says_worse_as_rarely_as_it_should() -> None:
    said = [
        {change.verdict for change in seed_verdicts(NAMES, runs(2 * n, 12), runs(2 * n + 1, 5), error=0.1, draws=399)}
        for n in range(400)
    ]
    for verdict in ("worse", "better"):
        assert 0.05 < sum(verdict in words for words in said) / len(said) < 0.15  # 0.1 ± 3.3 standard errors


def test_too_few_runs_say_nothing() -> None:
    (first, _) = seed_verdicts(NAMES, runs(0, 24), runs(1, 1, shift=50.0))
    assert first.verdict == "no loss found" and (first.low, first.high) == (-math.inf, math.inf)
    assert seed_verdicts(NAMES, runs(0, 24), runs(1, 2, shift=50.0))[0].verdict == "worse"


def test_figures_that_never_move() -> None:
    ones = np.ones((24, 2))
    same = seed_verdicts(NAMES, ones, ones[:6])
    assert [(change.verdict, round(change.low, 9), round(change.high, 9)) for change in same] == [
        ("no loss found", 0.0, 0.0)
    ] * 2
    assert seed_verdicts(NAMES, ones, ones[:6] - [0.5, 0.0])[0].verdict == "worse"


def test_the_groups_drawn_are_the_runs_own_first_and_each_run_once() -> None:
    groups = drawn_groups(30, 6, 500)
    assert groups.shape == (501, 6) and groups[0].tolist() == [24, 25, 26, 27, 28, 29]
    assert all(len(set(group)) == 6 for group in groups.tolist())
    scores, widths = t_scores(runs(5, 30), groups)
    assert scores.shape == widths.shape == (501, 2)


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (np.ones((1, 2)), np.ones((1, 2))),
        (np.ones((5, 2)), np.ones((0, 2))),
        (np.ones((5, 3)), np.ones((2, 2))),
        (np.ones((5, 2)), np.full((2, 2), np.nan)),
    ],
)
def test_tables_that_are_none(reference: np.ndarray, candidate: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"runs|finite"):
        seed_verdicts(NAMES, reference, candidate)
