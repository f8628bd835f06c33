"""The loss and its metrics against hand-worked cases."""

from __future__ import annotations

import math

import pytest
import torch
from fixtures_update import update_params
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.update import losses
from r1_searcher.update.policy_losses.ppo import ppo

LOG2 = math.log(2.0)


def test_clipped_loss_and_its_gradient_by_hand() -> None:
    # ratios 2, 2, 0.5, 0.5, 1 with both signs of the advantage
    logprobs = torch.tensor([LOG2, LOG2, -LOG2, -LOG2, 0.0], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 3.0], dtype=torch.float64)
    token = ppo(logprobs, torch.zeros(5, dtype=torch.float64), advantages, update_params(clip=0.2))
    torch.testing.assert_close(token.detach(), torch.tensor([-1.2, 2.0, -0.5, 0.8, -3.0], dtype=torch.float64))
    token.sum().backward()
    # clipped where the ratio is already past the edge in the advantage's direction; elsewhere -A * ratio
    torch.testing.assert_close(logprobs.grad, torch.tensor([0.0, 2.0, -0.5, 0.0, -3.0], dtype=torch.float64))


def test_loss_weights_by_hand() -> None:
    # trajectory: 1/2 of a mean over 1 token, 1/2 of a mean over 4
    assert losses.loss_weights([1, 4], "trajectory", batch_tokens=99, minibatches=7) == [0.5, 0.125]
    # token: a constant of the whole batch, whatever this minibatch contains
    assert losses.loss_weights([1, 4], "token", batch_tokens=20, minibatches=2) == [0.1, 0.1]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 4))
def test_token_weights_of_all_minibatches_sum_to_their_number(lengths: list[int], minibatches: int) -> None:
    total = 0.0
    for start in range(minibatches):
        part = lengths[start::minibatches]
        weights = losses.loss_weights(part, "token", batch_tokens=sum(lengths), minibatches=minibatches)
        total += sum(weight * tokens for weight, tokens in zip(weights, part, strict=True))
    assert total == pytest.approx(minibatches)


def test_importance_weights_are_truncated_and_without_gradient() -> None:
    trainer = torch.tensor([0.0, LOG2, 2 * LOG2, -LOG2], requires_grad=True)
    weights = losses.importance_weights(trainer, torch.zeros(4), 2.0)
    torch.testing.assert_close(weights, torch.tensor([1.0, 2.0, 2.0, 0.5]))
    assert not weights.requires_grad
    metrics = losses.importance_metrics(trainer.detach(), torch.zeros(4), 1.5)
    assert metrics["importance_ratio_max"] == pytest.approx(4.0)
    assert metrics["importance_truncated"] == pytest.approx(0.5)


def test_kl_estimates_are_unbiased() -> None:
    policy, other = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.2, 0.6]).double()
    exact = (policy * (policy / other).log()).sum()
    k1, k3 = losses.kl_k1(policy.log(), other.log()), losses.kl_k3(policy.log(), other.log())
    torch.testing.assert_close((policy * k1).sum(), exact)
    torch.testing.assert_close((policy * k3).sum(), exact)
    assert (k3 >= 0).all()
    assert (k1 < 0).any()


def test_ratio_metrics_by_hand() -> None:
    logprobs, anchor = torch.tensor([LOG2, LOG2, -LOG2, 0.0]), torch.zeros(4)
    metrics = losses.ratio_metrics(logprobs, anchor, torch.tensor([1.0, -1.0, -1.0, 1.0]), 0.2)
    assert metrics["clip_fraction"] == pytest.approx(0.5)
    assert metrics["ratio_max"] == pytest.approx(2.0)
    assert metrics["ratio_min"] == pytest.approx(0.5)
    assert metrics["ratio_p99"] == pytest.approx(2.0)
    assert metrics["kl_old_k1"] == pytest.approx(-LOG2 / 4)  # anchor - new: (-L - L + L + 0) / 4
    assert metrics["kl_old_k3"] == pytest.approx((1 + 1 - 0.5 - LOG2) / 4)  # r - 1 - log r, r = 2, 2, 0.5, 1


def test_gap_metrics_by_hand() -> None:
    metrics = losses.gap_metrics(torch.tensor([0.0, -1.0]), torch.tensor([0.5, -1.25]))
    assert metrics == {"logprob_gap_mean": pytest.approx(0.375), "logprob_gap_max": pytest.approx(0.5)}
