"""Replies of HTTP servers within hard limits: bytes as they come, bytes as they are read, seconds for all of it.

A server, or whoever answers in its place, may send a byte a second (of the body, of a header, of one ``100 Continue``
after another), a body without end, or 269 bytes that become gigabytes where each ``Content-Encoding`` of a list is
decoded. A client's time-outs are of one read each. So time and bytes are counted where they pass, at the socket, and
one layer of gzip is decoded here, no further than allowed.

``limit`` holds a client's replies to this, one that reads them whole. Who reads a reply's beginning has the parts:
``ExchangeBudget``, ``counted``, ``read``.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx

from r1_searcher.net.network import Network

_HEADERS = 1 << 18  # bytes besides bodies: headers of all redirects, framing of chunks
_PIECE = 1 << 14  # bytes to send between two looks at the clock
_GZIP = 16 + zlib.MAX_WBITS
_CODED = {"": False, "identity": False, "gzip": True, "x-gzip": True}  # Content-Encoding: whether it is gzip
# headers that no longer apply to a decoded body
_OF_THE_WAY = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_KEY = "r1_searcher.net.replies"  # in a request's extensions, which its redirects inherit

_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';,]*)""", re.IGNORECASE)
# The encodings of the web (https://encoding.spec.whatwg.org), by Python's names. Python also knows codecs that are no
# text encodings (zlib, hex, rot13), or none for a page (utf-7, unicode_escape).
ENCODINGS = frozenset(
    "ascii utf-8 utf-16 utf-16-le utf-16-be big5 big5hkscs cp866 cp874 cp932 cp949 euc_jp euc_kr gb18030 gb2312 gbk "
    "iso2022_jp koi8-r koi8-u mac-cyrillic mac-roman shift_jis tis-620".split()
    + [f"iso8859-{number}" for number in range(1, 17) if number != 12]
    + [f"cp{number}" for number in range(1250, 1259)]
)


class TooLong(httpx.RemoteProtocolError):
    """A response exceeds the byte limit."""


class ExchangeBudget:
    """What one exchange may still use: ``seconds`` from now, and ``most`` bytes of bodies plus headers."""

    def __init__(self, seconds: float, most: int) -> None:
        self.most = most
        self._until = time.monotonic() + seconds
        self._left = most + _HEADERS

    @property
    def overdrawn(self) -> bool:
        """Whether more was sent than allowed."""
        return self._left < 0

    def seconds(self) -> float:
        """Return the remaining time. Raises ``httpcore.ReadTimeout``."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("took too long")
        return left

    def take(self, received: bytes) -> bytes:
        """Count received bytes. Raises ``httpcore.ReadError``."""
        self._left -= len(received)
        if self.overdrawn:
            raise httpcore.ReadError("sent too much")
        return received


class Within(httpcore.NetworkBackend):
    """A network whose exchanges use up the budget of their thread."""

    def __init__(self, network: httpcore.NetworkBackend) -> None:
        self._network = network
        self._thread = threading.local()  # a kept connection serves one exchange after another

    @contextlib.contextmanager
    def using(self, budget: ExchangeBudget) -> Iterator[None]:
        """Use ``budget`` for this thread's exchange until its response has been read."""
        self._thread.budget = budget
        try:
            yield
        finally:
            del self._thread.budget

    @property
    def budget(self) -> ExchangeBudget:
        """The budget of this thread's exchange."""
        found: ExchangeBudget = self._thread.budget
        return found

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        seconds = _shorter_timeout(timeout, self.budget)
        return _Stream(self._network.connect_tcp(host, port, seconds, local_address, socket_options), self)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, within: Within) -> None:
        self._stream, self._within = stream, within

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        budget = self._within.budget
        return budget.take(self._stream.read(max_bytes, _shorter_timeout(timeout, budget)))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):  # each send of a piece has the whole time-out
            self._stream.write(buffer[start : start + _PIECE], _shorter_timeout(timeout, self._within.budget))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = _shorter_timeout(timeout, self._within.budget)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._within)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _shorter_timeout(timeout: float | None, budget: ExchangeBudget) -> float:
    left = budget.seconds()
    return left if timeout is None else min(timeout, left)


def read(answer: httpx.Response, most: int, *, beginning: bool = False) -> bytes:
    """Return the decoded body: at most ``most`` bytes, before and after decoding.

    ``beginning``: if the body is longer or too slow, return what arrived. Otherwise raises ``TooLong``, or what httpx
    raises; ``httpx.RemoteProtocolError`` for broken or multiply encoded bodies.
    """
    coding = answer.headers.get("Content-Encoding", "").strip().lower()
    if coding not in _CODED:
        raise httpx.RemoteProtocolError("encoded in a way that is not read")
    decoder = zlib.decompressobj(_GZIP) if _CODED[coding] else None
    body = bytearray()
    received = 0
    try:
        for chunk in answer.iter_raw():
            received += len(chunk)
            # One more than wanted, to notice a longer body; never 0, which would mean no limit.
            body += decoder.decompress(chunk, most + 1 - len(body)) if decoder else chunk
            if beginning and (len(body) >= most or received >= most or (decoder and decoder.eof)):
                return bytes(body[:most])
            if len(body) > most or received > most:
                raise TooLong(f"the reply has more than {most:,} bytes")
    except zlib.error:
        raise httpx.RemoteProtocolError("not the gzip that it says it is") from None
    except httpx.TimeoutException:
        if not (beginning and body):
            raise
    if decoder and received and not decoder.eof and not beginning:
        raise httpx.RemoteProtocolError("the gzip of the reply is cut short")
    return bytes(body[:most])


def limit(client: httpx.Client, *, seconds: float, most: int) -> httpx.Client:
    """Limit a new ``client``: every exchange takes at most ``seconds``, including redirects and response.

    A response is read whole, at most ``most`` bytes before and after decoding, and its charset is one of the web's or
    none. Exceeding a limit raises ``httpx.TransportError`` (``TooLong`` for bytes), as a lost connection does. The
    client's proxies are used as before.
    """
    within = counted(client)
    client._transport = _Bounded(client._transport, within, seconds, most)
    client._mounts = {
        pattern: None if transport is None else _Bounded(transport, within, seconds, most)
        for pattern, transport in client._mounts.items()
    }
    return client


def counted(client: httpx.Client, network: httpcore.NetworkBackend | None = None) -> Within:
    """The network of ``client``, a new one, its proxies included: each exchange is made ``using`` a budget.

    ``network``: what connects; default one whose connections begin within their time-out.
    """
    within = Within(network or Network())
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            assert isinstance(transport, httpx.HTTPTransport)
            transport._pool._network_backend = within  # httpx has no option for it
    return within


class _Bounded(httpx.BaseTransport):
    def __init__(self, inner: httpx.BaseTransport, within: Within, seconds: float, most: int) -> None:
        self._inner, self._network, self._seconds, self._most = inner, within, seconds, most

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        budget: ExchangeBudget = request.extensions.setdefault(_KEY, ExchangeBudget(self._seconds, self._most))
        request.headers["Accept-Encoding"] = "gzip"
        with self._network.using(budget):
            try:
                answer = self._inner.handle_request(request)
                try:
                    body = read(answer, self._most)
                finally:
                    answer.close()
            except httpx.ReadError:
                if budget.overdrawn:
                    raise TooLong(f"the reply has more than {self._most:,} bytes") from None
                raise
        headers = [
            (name, _with_known_charset(value) if name == "content-type" else value)
            for name, value in answer.headers.multi_items()
            if name not in _OF_THE_WAY
        ]
        return httpx.Response(
            answer.status_code, headers=headers, stream=httpx.ByteStream(body), extensions=answer.extensions
        )

    def close(self) -> None:
        self._inner.close()


def encoding(content_type: str) -> str:
    """Return the declared encoding if it is one of the web's, else UTF-8."""
    return _declared_charset(content_type) or "utf-8"


def _declared_charset(content_type: str) -> str:
    found = _CHARSET.search(content_type)
    try:
        name = codecs.lookup(found[1]).name if found else ""
    except (LookupError, UnicodeError, ValueError):
        name = ""
    return name if name in ENCODINGS else ""


def _with_known_charset(content_type: str) -> str:
    """Return ``content_type`` unchanged, or without parameters if it declares an unsupported charset."""
    if not _CHARSET.search(content_type) or _declared_charset(content_type):
        return content_type
    return content_type.partition(";")[0].strip()
