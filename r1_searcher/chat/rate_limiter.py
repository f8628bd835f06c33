"""A rate limiter in requests per minute, shared by threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator


class Stopped(BaseException):
    """Not an ``Exception``: the client would treat it as a lost connection."""


class Pace:
    """Spaces requests evenly, at most so many per minute (0: no limit); retries count too."""

    def __init__(self, requests_a_minute: float) -> None:
        self._interval = 60.0 / requests_a_minute if requests_a_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0
        self._stop = threading.Event()

    def wait(self, _request: object = None) -> None:
        """Sleep until this request may be sent."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if self._stop.wait(turn - now):
            raise Stopped

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Send no requests or retries within the context: after Ctrl-C nobody should wait for them."""
        self._stop.set()
        try:
            yield
        finally:
            self._stop.clear()
