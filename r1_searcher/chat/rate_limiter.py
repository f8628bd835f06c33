"""A limit of requests a minute, shared by threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator


class Stopped(BaseException):
    """Not an ``Exception``: the client would take it for a lost connection."""


class Pace:
    """Lets requests go one by one, at most so many a minute (0: at once); retries count as well."""

    def __init__(self, requests_a_minute: float) -> None:
        self._interval = 60.0 / requests_a_minute if requests_a_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0
        self._stop = threading.Event()

    def wait(self, _request: object = None) -> None:
        """Sleep until it is this request's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if self._stop.wait(turn - now):
            raise Stopped

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Meanwhile no request is sent, retries neither: who has stopped (Ctrl-C) need not wait for their turns."""
        self._stop.set()
        try:
            yield
        finally:
            self._stop.clear()
