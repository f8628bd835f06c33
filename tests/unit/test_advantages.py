"""Advantages against hand-worked cases, and properties of any batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.update.advantages import compute_advantages, in_flat_groups, terminal_rewards, token_returns, whiten
from r1_searcher.update.estimators.grpo import grpo, standardised
from r1_searcher.update.estimators.reinforce_plus_plus import from_mean, reinforce_plus_plus
from r1_searcher.update.estimators.rloo import from_others, rloo

ESTIMATORS = {"reinforce++": reinforce_plus_plus, "grpo": grpo, "rloo": rloo}


def test_terminal_rewards_by_hand() -> None:
    rewards, groups = np.array([1.0, 0.0, 0.0, 5.0, 3.0]), ["a", "a", "a", "b", "b"]
    by_mean = terminal_rewards(rewards, groups, from_mean)
    np.testing.assert_allclose(by_mean, [2 / 3, -1 / 3, -1 / 3, 1, -1])
    # sample standard deviations: sqrt((4/9 + 1/9 + 1/9) / 2) = sqrt(1/3), and sqrt(2)
    by_deviation = terminal_rewards(rewards, groups, standardised)
    np.testing.assert_allclose(by_deviation, [2 / 3**0.5, -1 / 3**0.5, -1 / 3**0.5, 2**-0.5, -(2**-0.5)], rtol=1e-6)
    leave_one_out = terminal_rewards(rewards, groups, from_others)
    np.testing.assert_allclose(leave_one_out, [1, -0.5, -0.5, 2, -2])


def test_groups_need_not_stand_together() -> None:
    mixed = terminal_rewards(np.array([1.0, 5.0, 0.0, 3.0]), ["a", "b", "a", "b"], from_others)
    np.testing.assert_allclose(mixed, [1, 2, -1, -2])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_rewards_and_groups_of_one_teach_nothing(estimator: str) -> None:
    rewards = [0.1, 0.1, 0.1, 7.0]  # 0.1 has no exact mean of three: the residue must not be divided by epsilon
    result = compute_advantages(rewards, ["a", "a", "a", "b"], [2, 1, 3, 2], ESTIMATORS[estimator])
    assert all((array == 0).all() for array in result.values)
    assert (result.num_groups, result.num_flat_groups) == (2, 2)


def test_returns_with_kl_by_hand() -> None:
    returns = token_returns(2.0, 3, np.array([1.0, -2.0, 4.0]), 0.5)
    # token rewards: -0.5, 1, 2 - 2 = 0; summed to the end
    np.testing.assert_allclose(returns, [0.5, 1.0, 0.0])
    np.testing.assert_allclose(token_returns(2.0, 3, None, 0.0), [2, 2, 2])


def test_whitening_is_over_tokens_not_trajectories() -> None:
    # three tokens of 1, one of -1: mean 0.5, variance 0.75
    long, short = whiten([np.array([1.0, 1.0, 1.0]), np.array([-1.0])])
    np.testing.assert_allclose(long, 0.5 / 0.75**0.5)
    np.testing.assert_allclose(short, -1.5 / 0.75**0.5)


@pytest.mark.parametrize("estimator", ["reinforce++", "rloo"])
def test_what_is_not_trained_on_is_compared_and_not_whitened(estimator: str) -> None:
    # b is flat; a's third sample is left out, yet its group's mean is 1 and not 1.5
    rewards, groups = [3.0, 0.0, 0.0, 7.0, 7.0], ["a", "a", "a", "b", "b"]
    flat = in_flat_groups(rewards, groups)
    assert flat == [False, False, False, True, True]
    trained = [True, True, False, False, False]
    result = compute_advantages(rewards, groups, [1, 2, 9, 5, 5], ESTIMATORS[estimator], trained=trained)
    first, second = (array for array, counts in zip(result.returns, trained, strict=True) if counts)
    # reinforce++: 3 - 1 and 0 - 1; rloo: 3 - 0 and 0 - 1.5
    np.testing.assert_allclose([*first, *second], [2, -1, -1] if estimator == "reinforce++" else [3, -1.5, -1.5])
    if estimator == "reinforce++":  # tokens 2 -1 -1: mean 0, variance 2
        np.testing.assert_allclose([*result.values[0], *result.values[1]], np.array([2, -1, -1]) / 2**0.5)
    assert all((array == 0).all() for array in [*result.values[2:], *result.returns[2:]])
    assert (result.num_groups, result.num_flat_groups) == (2, 1)
    nothing = compute_advantages([7.0], ["b"], [5], ESTIMATORS[estimator], trained=[False])
    assert (nothing.values[0] == 0).all()


def test_reinforce_by_hand() -> None:
    result = compute_advantages([1.0, 0.0], ["a", "a"], [3, 1], reinforce_plus_plus)
    np.testing.assert_allclose(result.returns[0], 0.5)  # r - group mean
    np.testing.assert_allclose(result.returns[1], -0.5)
    # tokens 0.5 0.5 0.5 -0.5: mean 0.25, variance 0.1875
    np.testing.assert_allclose(result.values[0], 0.25 / 0.1875**0.5)
    np.testing.assert_allclose(result.values[1], -0.75 / 0.1875**0.5)


def test_grpo_and_rloo_are_not_whitened() -> None:
    for estimator, expected in (("grpo", 2**-0.5), ("rloo", 1.0)):
        result = compute_advantages([1.0, 0.0], ["a", "a"], [3, 1], ESTIMATORS[estimator])
        np.testing.assert_allclose(result.values[0], expected, rtol=1e-6)
        np.testing.assert_allclose(result.values[1], -expected, rtol=1e-6)


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one policy token"):
        compute_advantages([1.0], ["a"], [0], grpo)
    with pytest.raises(ValueError, match="at least one trajectory"):
        compute_advantages([], [], [], grpo)
    with pytest.raises(ValueError, match="reference"):
        compute_advantages([1.0], ["a"], [1], grpo, kl_coefficient=0.1)
    with pytest.raises(ValueError, match="2 policy tokens"):
        compute_advantages([1.0], ["a"], [2], grpo, kl=[np.zeros(3)], kl_coefficient=0.1)


BATCHES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, -2.0]), st.sampled_from("abc"), st.integers(1, 6)),
    min_size=2,
    max_size=12,
)


@given(BATCHES)
def test_whitened_tokens_have_mean_0_and_variance_1(batch: list[tuple[float, str, int]]) -> None:
    rewards, groups, lengths = (list(column) for column in zip(*batch, strict=True))
    result = compute_advantages(rewards, groups, lengths, reinforce_plus_plus)
    assert [len(array) for array in result.values] == lengths
    tokens = np.concatenate(result.values)
    assert tokens.mean() == pytest.approx(0, abs=1e-9)
    assert tokens.std() == pytest.approx(1) or (tokens == 0).all()


@given(BATCHES, st.sampled_from(sorted(ESTIMATORS)), st.integers(-3, 3))
def test_a_constant_added_to_every_reward_changes_nothing(
    batch: list[tuple[float, str, int]], estimator: str, shift: int
) -> None:
    rewards, groups, lengths = (list(column) for column in zip(*batch, strict=True))
    plain = compute_advantages(rewards, groups, lengths, ESTIMATORS[estimator])
    moved = compute_advantages([r + shift for r in rewards], groups, lengths, ESTIMATORS[estimator])
    for one, other in zip(plain.values, moved.values, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
