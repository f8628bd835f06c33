"""The policy of all clients of servers: pauses, advice, the rate limiter, the circuit breaker."""

from __future__ import annotations

import time

import pytest
import tenacity

from r1_searcher.net.retries import CircuitBreaker, RateLimiter, Stopped, TryAgain, may_pass, retrying


def pauses(*advice: float | None, most_advised: float | None = None) -> list[float]:
    """The pauses after attempts that fail with this advice; the one after them succeeds."""
    slept: list[float] = []
    left = list(advice)

    def attempt() -> str:
        if left:
            raise TryAgain("not now", left.pop(0))
        return "at last"

    stop = tenacity.stop_after_attempt(len(advice) + 1)
    asking = retrying(stop, backoff=1.0, longest=4.0, most_advised=most_advised, sleep=slept.append)
    assert asking(attempt) == "at last"
    return slept


def test_pauses_double_and_have_an_end() -> None:
    first, second, third, fourth = pauses(None, None, None, None)
    assert 1 <= first <= 2 <= second <= 3 and third == fourth == 4


def test_advice_is_obeyed_as_far_as_allowed() -> None:
    short, long = pauses(2.0, 86_400.0)
    assert 2 <= short <= 3 and long == 4
    [allowed] = pauses(30.0, most_advised=60.0)
    assert 30 <= allowed <= 31


def test_what_stays_is_raised_and_what_cannot_pass_at_once() -> None:
    tried: list[int] = []

    def fails(error: Exception) -> None:
        tried.append(len(tried))
        raise error

    asking = retrying(tenacity.stop_after_attempt(3), backoff=0.0, longest=0.0, sleep=lambda seconds: None)
    with pytest.raises(TryAgain, match="503"):
        asking(fails, TryAgain("503"))
    with pytest.raises(ValueError, match="another"):
        asking(fails, ValueError("another"))
    assert len(tried) == 3 + 1
    assert [status for status in (200, 400, 404, 408, 425, 429, 500, 503) if may_pass(status)] == [
        408, 425, 429, 500, 503
    ]  # fmt: skip


def test_requests_are_held_back_and_stopped() -> None:
    free, slow = RateLimiter(0.0), RateLimiter(0.001)
    began = time.monotonic()
    free.wait()
    free.hold(0.05)
    free.wait()
    assert time.monotonic() - began >= 0.05
    slow.wait()
    with slow.stopped(), pytest.raises(Stopped):
        slow.wait()  # its turn would be in 1,000 s


def test_the_breaker_opens_for_a_while_and_an_answer_closes_it() -> None:
    forever, soon = CircuitBreaker(2), CircuitBreaker(2, seconds=0.0)
    for breaker in (forever, soon):
        breaker.note(answered=False)
        assert not breaker.is_open
        breaker.note(answered=False)
    assert forever.is_open and not soon.is_open
    forever.note(answered=True)
    assert not forever.is_open
