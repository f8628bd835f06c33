"""Connections of requests that end at a deadline.

A time-out of requests applies to each read: it would wait for a server that sends a byte now and then.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Over(Exception):
    """The deadline has passed."""


class Deadline:
    """``with Deadline(seconds) as deadline``: the connections of its adapters end after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self._until

    def adapter(self, **settings: Any) -> HTTPAdapter:
        """Return an adapter for requests within the deadline, also through proxies."""
        pools = _pools(self)

        class Adapter(HTTPAdapter):
            def init_poolmanager(self, *given: Any, **named: Any) -> None:
                super().init_poolmanager(*given, **named)
                self.poolmanager.pool_classes_by_scheme = pools

            def proxy_manager_for(self, *given: Any, **named: Any) -> PoolManager:
                manager: PoolManager = super().proxy_manager_for(*given, **named)
                manager.pool_classes_by_scheme = pools
                return manager

        return Adapter(**settings)

    def note(self, connection: HTTPConnection) -> None:
        """Register a connection to be ended. Raises ``Over``."""
        with self._lock:
            self._open.append(connection.sock)  # the connection drops it if the response ends with it
        if self.over:
            raise Over

    def _end(self) -> None:
        with self._lock:
            opened = list(self._open)
        for one in opened:
            with contextlib.suppress(OSError):  # already closed
                one.shutdown(socket.SHUT_RDWR)


def _pools(deadline: Deadline) -> dict[str, type[HTTPConnectionPool]]:
    """Return urllib3's pools with connections that the deadline knows."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.note(self)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            deadline.note(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
