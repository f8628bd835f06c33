"""GET within hard limits: bytes as they come, bytes as they are read, and seconds for everything together.

A page is somebody else's. Its server may send a byte a second (of the body, of a header, of one ``100 Continue`` after
another), or 269 bytes that become gigabytes where each ``Content-Encoding`` of a list is decoded. So time and
bytes are counted where they pass, at the socket, and one layer of gzip is decoded here, no further than allowed.
"""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpcore
import httpx

_MAX_REDIRECTS = 5
_HEADERS = 1 << 18  # bytes besides bodies: headers of all redirects, framing of chunks
_GZIP = 16 + zlib.MAX_WBITS
_CODED = {"": False, "identity": False, "gzip": True, "x-gzip": True}  # Content-Encoding: whether it is gzip


@dataclass(frozen=True)
class Answer:
    """The end of all redirects. ``content``: the beginning of the decoded body, as much as was allowed."""

    status: int
    content_type: str
    content: bytes


class Unreadable(Exception):
    """There is no answer within the limits, or none that can be read; says why."""


@dataclass
class _Budget:
    """What one GET may still use."""

    until: float  # of time.monotonic()
    left: int  # bytes

    def seconds(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("took too long")
        return left

    def take(self, received: bytes) -> bytes:
        self.left -= len(received)
        if self.left < 0:
            raise httpcore.ReadError("sent too much")
        return received


def get(
    url: str,
    *,
    headers: Mapping[str, str],
    network: httpcore.NetworkBackend,
    context: ssl.SSLContext,
    seconds: float,
    most: int,
    wanted: Iterable[str],
) -> Answer:
    """The answer at ``url``, after at most five redirects.

    ``seconds``: of it all, resolving names included. ``most``: bytes of the body, before and after decoding; what
    follows is not read. ``wanted``: media types whose body is read; an answer of another, or not a 200, has
    no content. Raises ``Unreadable``.
    """
    budget = _Budget(time.monotonic() + seconds, most + _HEADERS)
    kinds = frozenset(wanted)
    try:
        with httpx.Client(
            transport=_transport(network, context, budget),
            headers={**headers, "Accept-Encoding": "gzip"},
            timeout=seconds,
            trust_env=False,  # a proxy would make the connections, and nobody would look at their addresses
        ) as client:
            request: httpx.Request | None = client.build_request("GET", url)
            for _ in range(_MAX_REDIRECTS + 1):
                assert request is not None
                _check_address(request.url)
                answer = client.send(request, stream=True)
                try:
                    request = answer.next_request
                    if request is None:
                        return _read(answer, budget, most, kinds)
                finally:
                    answer.close()
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, zlib.error) as error:
        raise Unreadable(str(error) or type(error).__name__) from None
    raise Unreadable("too many redirects")


def _check_address(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https") or url.userinfo:
        raise Unreadable("not an address of a page")


def _read(answer: httpx.Response, budget: _Budget, most: int, wanted: frozenset[str]) -> Answer:
    content_type = answer.headers.get("Content-Type", "text/html")
    if answer.status_code != 200 or content_type.partition(";")[0].strip().lower() not in wanted:
        return Answer(answer.status_code, content_type, b"")
    coding = answer.headers.get("Content-Encoding", "").strip().lower()
    if coding not in _CODED:
        raise Unreadable("encoded in a way that is not read")
    decoder = zlib.decompressobj(_GZIP) if _CODED[coding] else None
    body = bytearray()
    received = 0
    try:
        for chunk in answer.iter_raw():
            received += len(chunk)
            body += decoder.decompress(chunk, most - len(body)) if decoder else chunk
            if len(body) >= most or received >= most or (decoder and decoder.eof):
                break
    except httpx.TimeoutException:
        if not body:
            raise
    # The beginning of a page is a page.
    return Answer(answer.status_code, content_type, bytes(body[:most]))


def _transport(network: httpcore.NetworkBackend, context: ssl.SSLContext, budget: _Budget) -> httpx.HTTPTransport:
    transport = httpx.HTTPTransport(verify=context)
    transport.close()
    # httpx has no option for the network backend of its pool.
    transport._pool = httpcore.ConnectionPool(ssl_context=context, network_backend=_Within(network, budget))
    return transport


class _Within(httpcore.NetworkBackend):
    """A network whose connections use up one budget."""

    def __init__(self, network: httpcore.NetworkBackend, budget: _Budget) -> None:
        self._network, self._budget = network, budget

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        seconds = self._budget.seconds()
        return _Stream(self._network.connect_tcp(host, port, seconds, local_address, socket_options), self._budget)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, budget: _Budget) -> None:
        self._stream, self._budget = stream, budget

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._budget.take(self._stream.read(max_bytes, self._budget.seconds()))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._budget.seconds())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._budget.seconds()), self._budget)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
