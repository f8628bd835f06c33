"""Drawing tokens: greedy, inverse transform, temperature, top-p."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.rollout.sampling import draw, uniforms

NUMBER = st.floats(-8, 8, width=32)
LOGITS = st.lists(NUMBER, min_size=1, max_size=9)
UNIFORM = st.floats(0, 1, exclude_max=True, width=32)
ROW = torch.tensor([1.5, -0.5, 0.0, 2.0, -3.0, 0.5])


def draws(row: torch.Tensor, temperature: float, top_p: float, count: int = 40_000) -> tuple[torch.Tensor, ...]:
    """Return shares (V,) of so many draws from one row of logits, and the log-probabilities (V,) reported for each
    token."""
    tokens, logprobs = draw(row.repeat(count, 1), uniforms(7, count), temperature, top_p)
    told = torch.full_like(row, float("nan"))
    told[tokens] = logprobs
    return torch.bincount(tokens, minlength=len(row)) / count, told


def assert_distributed(shares: torch.Tensor, expected: torch.Tensor, count: int = 40_000) -> None:
    """Pearson's statistic of the counts stays under a bound that chance exceeds once in 10^6 (5 degrees of freedom)."""
    possible = expected > 0
    assert not shares[~possible].any()
    statistic = count * ((shares - expected)[possible] ** 2 / expected[possible]).sum()
    assert statistic < 37


@given(LOGITS, UNIFORM)
@settings(max_examples=60, deadline=None)
def test_greedy_takes_the_likeliest_and_ignores_the_uniform_number(logits: list[float], uniform: float) -> None:
    tokens, logprobs = draw(torch.tensor([logits]), torch.tensor([uniform]), 0.0, 0.1)
    assert logits[int(tokens[0])] == max(logits)
    assert logprobs[0] == torch.tensor(logits).log_softmax(-1)[tokens[0]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_shares_are_the_softmax_at_the_temperature(temperature: float) -> None:
    shares, told = draws(ROW, temperature, 1.0)
    assert_distributed(shares, (ROW / temperature).softmax(-1))
    drawn = ~told.isnan()
    torch.testing.assert_close(told[drawn], (ROW / temperature).log_softmax(-1)[drawn])


def test_the_bound_on_shares_catches_another_distribution() -> None:
    shares, _ = draws(ROW, 1.0, 1.0)
    with pytest.raises(AssertionError):
        assert_distributed(shares, (ROW / 1.05).softmax(-1))


def test_top_p_keeps_the_smallest_set_that_holds_it() -> None:
    """softmax(ROW) is about 0.49, 0.30, 0.11, 0.07, 0.04, 0.00: the two likeliest cover 0.7."""
    shares, told = draws(ROW, 1.0, 0.7)
    kept = torch.zeros(6)
    kept[[3, 0]] = ROW.softmax(-1)[[3, 0]]
    assert_distributed(shares, kept / kept.sum())
    # The log-probability is the policy's, before top-p.
    torch.testing.assert_close(told[[3, 0]], ROW.log_softmax(-1)[[3, 0]])


@given(LOGITS, UNIFORM, st.floats(0.0078125, 1, width=32), st.floats(0.25, 4, width=32))
@settings(max_examples=150, deadline=None)
def test_a_draw_is_always_a_token_of_the_nucleus(
    logits: list[float], uniform: float, top_p: float, temperature: float
) -> None:
    row = torch.tensor(logits)
    tokens, logprobs = draw(row[None], torch.tensor([uniform]), temperature, top_p)
    token = int(tokens[0])
    probabilities = (row / temperature).softmax(-1)
    likelier = probabilities[probabilities > probabilities[token]].sum()
    assert likelier < top_p + 1e-5
    assert math.isclose(float(logprobs[0]), float(probabilities[token].log()), abs_tol=1e-4)


@given(st.lists(NUMBER, min_size=3, max_size=3), st.lists(UNIFORM, min_size=4, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_row_is_drawn_alone(logits: list[float], numbers: list[float]) -> None:
    """The same row gives the same token, whatever the other rows."""
    rows = torch.tensor([logits, [0.0, 1.0, 2.0], logits, [3.0, -1.0, 0.0]])
    together, _ = draw(rows, torch.tensor(numbers), 1.0, 0.9)
    alone = [int(draw(rows[[place]], torch.tensor([numbers[place]]), 1.0, 0.9)[0][0]) for place in range(4)]
    assert together.tolist() == alone


def test_impossible_tokens_are_never_drawn() -> None:
    """Nor at the ends of the unit interval."""
    row = torch.tensor([-torch.inf, 0.0, 0.0, -torch.inf])
    edges = torch.tensor([0.0, 0.5, 1 - 2**-24])
    tokens, logprobs = draw(row.repeat(3, 1), edges, 1.0, 1.0)
    assert tokens.tolist() == [1, 2, 2]
    torch.testing.assert_close(logprobs, torch.full((3,), math.log(0.5)))


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_uniforms_follow_from_the_seed_and_a_longer_row_begins_alike(seed: int) -> None:
    numbers = uniforms(seed, 8)
    assert numbers.dtype == torch.float32 and bool(((numbers >= 0) & (numbers < 1)).all())
    assert torch.equal(uniforms(seed, 20)[:8], numbers)
    assert not torch.equal(uniforms(seed ^ 1, 8), numbers)
