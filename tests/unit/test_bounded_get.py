"""A page's server may be hostile: seconds, raw bytes and decoded bytes have hard limits."""

from __future__ import annotations

import codecs
import functools
import gzip
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore
import pytest
from odd_servers import Speak, drips, says, serve

from r1_searcher.net.replies import ENCODINGS, encoding
from r1_searcher.retrieval.online import bounded, guard

MOST, SECONDS = 20_000, 0.3
CONTEXT = ssl.create_default_context()
TEXT = "Content-Type: text/plain"


def get(url: str, *, seconds: float = 5.0, public_only: bool = False) -> bounded.Answer:
    return bounded.get(
        url,
        headers={"User-Agent": "test"},
        network=guard.GuardedNetwork(public_only=public_only),
        context=CONTEXT,
        seconds=seconds,
        most=MOST,
        wanted=("text/plain", "text/html"),
    )


@contextmanager
def little_memory(most: int = 3_000_000) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@functools.cache
def zeros(layers: int, megabytes: int = 30) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(megabytes)), packer.flush()])
    for _ in range(layers - 1):
        body = gzip.compress(body)
    return body


BOMBS: dict[str, tuple[Speak, bytes | None]] = {  # what is read: the first zeros, or nothing at all
    "gzip": (says(zeros(1), TEXT, "Content-Encoding: gzip"), bytes(MOST)),
    "x-gzip": (says(zeros(1), TEXT, "Content-Encoding: X-GZIP "), bytes(MOST)),
    "two layers": (says(zeros(2), TEXT, "Content-Encoding: gzip, gzip"), None),
    "three layers": (says(zeros(3), TEXT, "Content-Encoding: gzip,gzip,gzip"), None),
    "two headers": (says(zeros(2), TEXT, "Content-Encoding: gzip", "Content-Encoding: gzip"), None),
    "two layers, one said": (
        says(zeros(2), TEXT, "Content-Encoding: gzip"),
        zeros(1)[:MOST],
    ),
    "deflate": (says(zlib.compress(bytes(30_000_000)), TEXT, "Content-Encoding: deflate"), None),
    "zstd": (says(b"x", TEXT, "Content-Encoding: zstd"), None),
    "an odd one": (says(b"x", TEXT, "Content-Encoding: identity, identity"), None),
    "no gzip": (says(b"plain", TEXT, "Content-Encoding: gzip"), None),
    "plain": (says(bytes(30_000_000), TEXT), bytes(MOST)),
    "announced": (says(b"abc", TEXT, "Content-Length: 99999999999"), None),
    "one chunk": (says(b"300000\r\n" + bytes(0x300000), TEXT, "Transfer-Encoding: chunked"), bytes(MOST)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_no_body_takes_more_than_its_share(name: str) -> None:
    speak, content = BOMBS[name]
    with serve(speak) as address, little_memory():
        if content is None:
            with pytest.raises(bounded.Unreadable):
                get(address)
        else:
            assert get(address).content == content


@pytest.mark.parametrize("status", ["302 Found", "404 Not Found", "500 Oops"])
def test_a_body_that_is_not_wanted_is_not_read(status: str) -> None:
    """For example a redirect's: httpx reads and decodes it if it follows redirects itself."""
    lines = [TEXT, "Content-Encoding: gzip"] + ["Location: /next"] * status.startswith("3")
    with serve(says(zeros(1), *lines, status=status)) as address, little_memory():
        if status.startswith("3"):
            with pytest.raises(bounded.Unreadable, match="too many redirects"):
                get(address)
        else:
            assert get(address).content == b""
    with serve(says(zeros(1), "Content-Type: image/png", "Content-Encoding: gzip")) as address, little_memory():
        assert get(address) == bounded.Answer(200, "image/png", b"")


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
DRIPS = {
    "status line": drips(b"HTTP/1.1 200 ", b"O"),
    "header": drips(OK + b"X-Long: ", b"x"),
    "headers": drips(OK, b"X-More: y\r\n"),
    "100 Continue": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints": drips(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "chunk size": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "silence": drips(b"", b""),
    "gzip header": drips(OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\x03", b"n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRIPS)
def test_no_server_holds_a_search_for_longer_than_its_time(name: str) -> None:
    with serve(DRIPS[name]) as address:
        began = time.monotonic()
        with pytest.raises(bounded.Unreadable):
            get(address, seconds=SECONDS)
        assert time.monotonic() - began < 5.0  # a server gives up after 10 seconds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["body", "chunks"])
def test_what_came_of_a_slow_page_is_its_beginning(name: str) -> None:
    start, piece = {
        "body": (OK + b"Content-Length: 1000000\r\n\r\nab", b"c"),
        "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n"),
    }[name]
    with serve(drips(start, piece)) as address:
        content = get(address, seconds=SECONDS).content
    assert content.startswith(b"ab") and set(content[2:]) <= set(b"c") and len(content) < 500


def test_headers_have_a_limit_too() -> None:
    endless = drips(OK, b"X-More: " + b"y" * 60_000 + b"\r\n")
    with serve(endless) as address, little_memory(), pytest.raises(bounded.Unreadable):
        get(address)


def test_all_redirects_share_one_time() -> None:
    def slow(connection: socket.socket) -> None:
        time.sleep(SECONDS / 2)
        says(b"", "Location: /next", status="302 Found")(connection)

    with serve(slow) as address, pytest.raises(bounded.Unreadable, match=r"too long|timed out"):
        get(address, seconds=SECONDS)


def test_a_redirect_to_another_scheme_or_with_a_password_is_not_followed() -> None:
    for place in ("file:///etc/passwd", "http://user:word@127.0.0.1/", "ftp://127.0.0.1/"):
        moved = says(b"", f"Location: {place}", status="302 Found")
        with serve(moved) as address, pytest.raises(bounded.Unreadable, match="not an address"):
            get(address)


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer.wait(10.0) and [])
    try:
        with pytest.raises(bounded.Unreadable, match="not resolved in time"):
            get("http://slow.example/", seconds=SECONDS)
        with pytest.raises(httpcore.ConnectTimeout):
            guard.GuardedNetwork(public_only=True).connect_tcp("slow.example", 80, 0.05)
    finally:
        answer.set()


def test_certificates_are_checked() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"no TLS at all")

    assert CONTEXT.check_hostname
    with serve(answer) as address, pytest.raises(bounded.Unreadable, match="SSL"):
        get(address.replace("http:", "https:"))


@pytest.mark.parametrize(
    "charset",
    "zlib hex base64 bz2 rot13 uu quopri undefined idna punycode unicode_escape utf-7 utf-32 mbcs no-such é".split(),
)
def test_a_charset_that_is_none_is_utf_8(charset: str) -> None:
    assert encoding(f"text/plain; charset={charset}") == "utf-8"


def test_the_charsets_of_the_web_are_read_whatever_the_bytes() -> None:
    anything = bytes(range(256)) * 3
    for name in ENCODINGS:
        assert codecs.lookup(name).name == name
        assert anything.decode(name, "replace")
    assert encoding('text/plain; Charset="Latin-1"') == "iso8859-1"
    assert encoding("text/plain; charset=windows-1252; x=y") == "cp1252"
    assert encoding("text/plain") == "utf-8"
