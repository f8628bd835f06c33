"""What all clients of servers share: when to ask again, how often at most, and when to stop asking."""

from __future__ import annotations

import contextlib
import email.utils
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import tenacity

_PASSING = (408, 425, 429)  # and every 5xx


class TryAgain(Exception):
    """An attempt failed and another may succeed, in ``after`` seconds if the server said so."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


def may_pass(status: int) -> bool:
    """Whether a reply with this status is worth another attempt."""
    return status in _PASSING or status >= 500


def retrying(
    stop: Any,
    *,
    backoff: float,
    longest: float,
    most_advised: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tenacity.Retrying:
    """Calls again whatever raises ``TryAgain``, until ``stop`` (tenacity's); then raises it.

    The first pause is ``backoff`` seconds, each further one twice as long, ``longest`` at most. A server's advice is
    obeyed up to ``most_advised`` (default: ``longest``). Up to ``backoff`` comes on top of either, by chance, so that
    not all clients are back at once.
    """
    growing = tenacity.wait_exponential_jitter(multiplier=backoff, max=longest, jitter=backoff)

    def pause(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        after = error.after if isinstance(error, TryAgain) else None
        if after is None:
            return float(growing(state))
        return min(longest if most_advised is None else most_advised, after + random.uniform(0, backoff))

    again = tenacity.retry_if_exception_type(TryAgain)
    return tenacity.Retrying(stop=stop, wait=pause, retry=again, sleep=sleep, reraise=True)


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: seconds, or a date); None if there is none to read."""
    if not header:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        date = email.utils.parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


class Stopped(BaseException):
    """Not an ``Exception``: a client would take it for a lost connection."""


class RateLimiter:
    """Lets requests begin one by one, in all threads at most so many per second (0: at once). Retries count as well."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1.0 / per_second if per_second else 0.0
        self._lock = threading.Lock()
        self._next = 0.0
        self._stop = threading.Event()

    def wait(self, _request: object = None) -> None:
        """Sleep until it is this request's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if self._stop.wait(turn - now):
            raise Stopped

    def hold(self, seconds: float) -> None:
        """No request begins within the next ``seconds``."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Meanwhile no request is sent, retries neither: after Ctrl-C nobody waits for their turns."""
        self._stop.set()
        try:
            yield
        finally:
            self._stop.clear()


class CircuitBreaker:
    """Stop calling a server that keeps failing, for ``seconds``: an outage costs one round of retries and not hundreds.

    ``failures``: so many in a row open it. ``seconds``: infinite if nothing closes it but an answer.
    """

    def __init__(self, failures: int, seconds: float = float("inf")) -> None:
        self._limit, self._seconds = failures, seconds
        self._failures, self._until = 0, 0.0
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether calls are not worth trying now."""
        with self._lock:
            return self._failures >= self._limit and time.monotonic() < self._until

    def note(self, *, answered: bool) -> None:
        """A call was answered, or was not after all its attempts."""
        with self._lock:
            self._failures = 0 if answered else self._failures + 1
            self._until = time.monotonic() + self._seconds
