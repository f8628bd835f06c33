"""Connections to public addresses only: a model's queries choose which pages are fetched.

Without this a page's link or redirect could make the training machine read its own network (server-side
request forgery). The check is made where the connection is: on the address that a name resolved to, and
that very address is connected to, so that neither a redirect nor a name that changes its address
between check and use gets past it.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterable

import httpcore

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address
# Global by the book, or to older Pythons, and still no address of a page.
_NOT_OURS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments
        "168.63.129.16/32",  # Azure's host service, reached from every machine there
        "3fff::/20",  # documentation
    )
)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also when it is wrapped in an IPv6 one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.is_site_local:  # deprecated, and routed inside some networks still
            return False
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    if any(found in network for network in _NOT_OURS):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class Network(httpcore.SyncBackend):
    """httpcore's network whose connections, name resolution included, begin within their time-out.

    ``public_only``: names that resolve to an address that is not public are refused.
    """

    def __init__(self, *, public_only: bool) -> None:
        self._public_only = public_only

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of ``host`` that answers; with ``public_only`` all of them must be public."""
        until = None if timeout is None else time.monotonic() + timeout
        addresses = _resolved(host, port, timeout)
        private = [address for address in addresses if self._public_only and not is_public(address)]
        if private or not addresses:
            raise httpcore.ConnectError(f"{host} is at {', '.join(private) or 'no address'}, which is not public")
        for number, address in enumerate(addresses, 1):  # an IPv6 address first, where this machine may have no IPv6
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
        """Never."""
        raise httpcore.ConnectError("no page is read from a Unix socket")


def _resolved(host: str, port: int, timeout: float | None) -> list[str]:
    """The addresses of a name, each once. A resolver has no time-out of ours: it is waited for, and left behind."""
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
