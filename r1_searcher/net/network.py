"""Connections with a time-out that includes name resolution, which has none in Python."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Sequence

import httpcore


class Network(httpcore.SyncBackend):
    """httpcore's network: resolves a name here and connects to the first of its addresses that answers."""

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """Raise ``httpcore.ConnectError`` if a name that resolved to ``addresses`` must not be connected to."""
        if not addresses:
            raise httpcore.ConnectError(f"{host} has no address")

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of ``host`` that answers, after checking all of them."""
        until = None if timeout is None else time.monotonic() + timeout
        addresses = _resolved(host, port, timeout)
        self.check(host, addresses)
        # an IPv6 address may come first although this machine has no IPv6
        for number, address in enumerate(addresses, 1):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            try:
                return super().connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise httpcore.ConnectTimeout(f"{host} does not answer")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        """Refuse: Unix sockets are not used."""
        raise httpcore.ConnectError("nothing is read from a Unix socket")


def _resolved(host: str, port: int, timeout: float | None) -> list[str]:
    """Return the distinct addresses of a name. The resolver has no time-out, so it runs in a thread that may be
    abandoned."""
    answer: list[list[str] | Exception] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.append(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except (OSError, UnicodeError) as error:
            answer.append(error)

    asking = threading.Thread(target=ask, name="resolve", daemon=True)
    asking.start()
    asking.join(timeout)
    if not answer:
        raise httpcore.ConnectTimeout(f"{host}: its name was not resolved in time")
    if isinstance(answer[0], Exception):
        raise httpcore.ConnectError(f"{host}: {answer[0]}") from answer[0]
    return answer[0]
