"""Connections to public addresses only, because a model's queries choose which pages are fetched.

Otherwise a page's link or redirect could make the training machine read its own network (server-side request forgery).
The check is made at connection time, on the resolved address to which the connection is then made, so that neither a
redirect nor a name that changes its address between check and use gets past it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import httpcore

from r1_searcher.net import network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address
# Global by the standard, or for older Pythons, but never the address of a page.
_NOT_OURS = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments
        "168.63.129.16/32",  # Azure's host service, reachable from every machine there
        "3fff::/20",  # documentation
    )
)


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet, including one embedded in an IPv6 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.is_site_local:  # deprecated, but still routed inside some networks
            return False
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    if any(found in block for block in _NOT_OURS):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class GuardedNetwork(network.Network):
    """Connections that begin within their time-out.

    ``public_only``: refuse names that resolve to a non-public address.
    """

    def __init__(self, *, public_only: bool) -> None:
        self._public_only = public_only

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """With ``public_only``, raise ``httpcore.ConnectError`` unless all addresses are public."""
        private = [address for address in addresses if self._public_only and not is_public(address)]
        if private or not addresses:
            raise httpcore.ConnectError(f"{host} is at {', '.join(private) or 'no address'}, which is not public")
