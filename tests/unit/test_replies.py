"""Every reader of a server's reply keeps to its limits of bytes and seconds, and ends in one line."""

from __future__ import annotations

import functools
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import chat_servers
import httpx
import pytest
import search_servers
from chat_servers import ScriptedServer
from fastapi import FastAPI, Request, Response
from odd_servers import LONGEST, Speak, drips, in_turn, says, serve

from r1_searcher import params
from r1_searcher.chat import chat_server
from r1_searcher.chat.chat_server import ChatServer, RequestFailed
from r1_searcher.errors import PipelineError
from r1_searcher.net import replies
from r1_searcher.net.retries import retry_after
from r1_searcher.retrieval.online import retriever
from r1_searcher.retrieval.online.retriever import OnlineRetriever
from r1_searcher.retrieval.remote import client as service
from r1_searcher.retrieval.remote.client import ServiceRetriever
from r1_searcher.retrieval.remote.messages import Health, Limits
from r1_searcher.texts import parse_json
from r1_searcher.types.protocols import RetrieverError

MOST, SECONDS = 20_000, 0.2
JSON = "Content-Type: application/json"
OK = f"HTTP/1.1 200 OK\r\n{JSON}\r\n".encode()
ONLINE = params.shipped().retriever.online
HEALTH = Health(
    status="ok", kind="bm25", fingerprint="f" * 8, corpus="a", description="b", waiting=0, limits=Limits()
).model_dump_json()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_server, "MAX_REPLY_BYTES", MOST)
    monkeypatch.setattr(retriever, "MAX_PAGE_BYTES", MOST)
    monkeypatch.setattr(service, "MAX_ANSWER_BYTES", MOST)


def online(url: str) -> Any:
    settings = ONLINE.model_copy(
        update={"engine": "searxng", "url": url, "pages": False, "attempts": 1, "timeout": SECONDS, "key_variable": ""}
    )
    return OnlineRetriever(settings, lambda limit: True).search(["ada"], 3)


def served_index(url: str) -> Any:
    remote = ServiceRetriever(search_servers.settings_for(url, timeout=SECONDS, wait=0.0))
    return remote.search(["ada"], 3)


def served_model(url: str) -> Any:
    with ChatServer(chat_servers.settings(url, retries=0, timeout_seconds=SECONDS), where="judge") as server:
        return server.complete([{"role": "user", "content": "hello"}], max_tokens=7)


def plain(url: str) -> Any:
    with replies.limit(httpx.Client(timeout=SECONDS), seconds=SECONDS, most=MOST) as client:
        answer = client.get(url)
        answer.raise_for_status()
        return parse_json(answer.content)


def health_first(speak: Speak) -> Speak:
    return in_turn(says(HEALTH.encode(), JSON), speak)


CLIENTS: dict[str, tuple[Callable[[str], Any], Callable[[Speak], Speak]]] = {
    "plain": (plain, lambda speak: speak),
    "search engine": (online, lambda speak: speak),
    "service, health": (served_index, lambda speak: speak),
    "service, search": (served_index, health_first),
    "served model": (served_model, lambda speak: speak),
}
ENDS = (RetrieverError, RequestFailed, PipelineError, httpx.HTTPError, json.JSONDecodeError)


@functools.cache
def zeros(layers: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(30)), packer.flush()])
    for _ in range(layers - 1):
        body = gzip.compress(body)
    return body


DRIPS: dict[str, Speak] = {
    "status line": drips(b"HTTP/1.1 200 ", b"O"),
    "header": drips(OK + b"X-Long: ", b"x"),
    "100 Continue": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": drips(OK + b"Content-Length: 1000000\r\n\r\n{", b" "),
    "chunks": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "error": drips(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n\r\n", b"x"),
}
BYTES: dict[str, Speak] = {
    "endless": drips(OK + b"\r\n", bytes(60_000)),
    "endless headers": drips(OK, b"X-More: " + b"y" * 60_000 + b"\r\n"),
    "endless error": drips(b"HTTP/1.1 400 No\r\n\r\n", bytes(60_000)),
    "a byte too long": says(b" " * (MOST - 1) + b"{}", JSON),
    "gzip": says(zeros(1), JSON, "Content-Encoding: gzip"),
    "nested gzip": says(zeros(3), JSON, "Content-Encoding: gzip, gzip, gzip"),
    "nested gzip, headers": says(zeros(2), JSON, "Content-Encoding: gzip", "Content-Encoding: gzip"),
    "gzip of an error": says(zeros(1), "Content-Encoding: gzip", status="503 Busy"),
    "deflate": says(zlib.compress(bytes(30_000_000)), JSON, "Content-Encoding: deflate"),
    "no gzip": says(b"{}", JSON, "Content-Encoding: gzip"),
    "half a gzip": says(gzip.compress(b'{"results": []}' * 9)[:-12], JSON, "Content-Encoding: gzip"),
}
TEXTS: dict[str, Speak] = {
    "half a JSON": says(b'{"results": [', JSON),
    "deep": says(b"[" * (MOST - 1), JSON),
    "a long number": says(b'{"results": ' + b"9" * 6_000 + b"}", JSON),
    "no UTF-8": says(b'{"results": "\xff\xfe\xfd"}', JSON),
    "another form": says(b'{"results": 7, "choices": [{"message": {"content": ["a"]}}]}', JSON),
    "no text at all": says(b"\x1f\x8b\0\0" * 99, "Content-Type: application/octet-stream"),
    "deep error": says(b'{"detail":' + b"[" * (MOST - 99), JSON, status="503 Busy"),
} | {
    f"{status}, charset {charset}": says(b"caf\xe9 \x1f", f"Content-Type: text/plain; charset={charset}", status=status)
    for charset in ("zlib", "undefined", "é")
    for status in ("200 OK", "500 Oops")
}


@contextmanager
def little(most: int = 6_000_000) -> Iterator[None]:
    """Few bytes are held meanwhile, and it ends before the server gives up."""
    began = time.monotonic()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
        assert time.monotonic() - began < LONGEST / 2
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Imports of the first request do not count as a reply's memory."""
    for ask, _ in CLIENTS.values():
        with serve(says(b"{}", JSON, status="400 No")) as address, pytest.raises(ENDS):
            ask(address)


CASES = [(client, name) for client in CLIENTS for name in [*DRIPS, *BYTES, *TEXTS]]
CASES.remove(("plain", "another form"))  # it requests no encoding


@pytest.mark.slow
@pytest.mark.parametrize(("client", "name"), CASES)
def test_a_hostile_reply_ends_within_its_limits_in_one_line(client: str, name: str) -> None:
    ask, dressed = CLIENTS[client]
    with serve(dressed((DRIPS | BYTES | TEXTS)[name])) as address, little(), pytest.raises(ENDS) as end:
        ask(address)
    said = str(end.value)
    assert said and len(said) < 400
    assert client == "plain" or "\n" not in said


def test_a_request_that_is_not_read_has_the_same_time() -> None:
    def deaf(_: Any) -> None:
        time.sleep(LONGEST / 2)

    with serve(deaf) as address, replies.limit(httpx.Client(), seconds=SECONDS, most=MOST) as client:
        began = time.monotonic()
        with pytest.raises(httpx.TimeoutException):
            client.post(address, content=bytes(30_000_000))
        assert time.monotonic() - began < LONGEST / 4


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, MOST])
@pytest.mark.parametrize("headers", [(), ("Content-Encoding: gzip",), ("Transfer-Encoding: chunked",)])
def test_a_reply_within_the_limit_is_as_it_was_sent(size: int, headers: tuple[str, ...]) -> None:
    body = sent = b"a" * size
    if "Content-Encoding: gzip" in headers:
        sent = gzip.compress(body)
    elif headers:
        sent = b"".join([b"%x\r\n%b\r\n" % (size, body) if size else b"", b"0\r\n\r\n"])
    with (
        serve(says(sent, "Content-Type: text/plain; charset=latin-1", "X-Ours: b", *headers, status="201 Yes")) as url,
        replies.limit(httpx.Client(), seconds=10.0, most=MOST) as client,
    ):
        answer = client.get(url)
    assert (answer.status_code, answer.reason_phrase, answer.content) == (201, "Yes", body)
    assert answer.headers["X-Ours"] == "b" and answer.encoding == "latin-1"


def test_each_exchange_of_a_kept_connection_has_a_budget_of_its_own() -> None:
    app = FastAPI()

    @app.get("/v1/port")
    def port(request: Request) -> Response:
        assert request.client is not None
        return Response(b"%-20000d" % request.client.port)

    with (
        chat_servers.serving(app) as url,
        replies.limit(httpx.Client(), seconds=10.0, most=MOST) as client,
    ):
        ports = {client.get(f"{url}/port").text for _ in range(20)}  # 400 kB
    assert len(ports) == 1


@pytest.mark.slow
def test_all_redirects_share_one_budget() -> None:
    moved = ("Location: /next", "Connection: close")

    def slow(connection: Any) -> None:
        time.sleep(SECONDS / 2)
        says(b"", *moved, status="307 Go on")(connection)

    long = says(b"a" * MOST, *moved, status="307 Go on")
    for speak, fault in ((slow, httpx.TimeoutException), (long, replies.TooLong)):
        with (
            serve(speak) as url,
            replies.limit(
                httpx.Client(follow_redirects=True, max_redirects=50), seconds=10 * SECONDS, most=MOST
            ) as client,
            pytest.raises(fault),
        ):
            client.get(url)


def test_a_proxy_of_the_environment_is_used_as_before_and_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for speak, fault in ((says(b"by the proxy"), None), (DRIPS["header"], httpx.ReadTimeout)):
        with serve(speak) as url:
            monkeypatch.setenv("http_proxy", url)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            with replies.limit(httpx.Client(), seconds=SECONDS if fault else 10.0, most=MOST) as client:
                if fault is None:
                    assert client.get("http://example.invalid/").text == "by the proxy"
                else:
                    with pytest.raises(fault):
                        client.get("http://example.invalid/")


def test_a_service_that_finds_more_than_is_read_is_asked_in_parts() -> None:
    asked: list[int] = []
    app = FastAPI()

    @app.get("/health")
    def health() -> Response:
        return Response(HEALTH, media_type="application/json")

    @app.post("/search")
    async def search(request: Request) -> dict[str, Any]:
        queries = (await request.json())["queries"]
        asked.append(len(queries))
        found = [[["p", "t", query * (30_000 if query == "z" else 4_000), 1.0]] for query in queries]
        return {"fingerprint": "f" * 8, "result": found, "errors": [None] * len(queries)}

    with chat_servers.serving(app) as url:
        remote = ServiceRetriever(search_servers.settings_for(url.removesuffix("/v1"), timeout=10.0, wait=0.0))
        found = remote.search(list("abcdefgh"), 1)
        assert [passages[0].text[0] for passages in found] == list("abcdefgh")
        assert asked == [8, 4, 4]
        with pytest.raises(RetrieverError, match="more than 20,000 bytes") as one:
            remote.search(list("az"), 1)
        assert isinstance(one.value, RetrieverError)
        remote.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [{"message": {"content": 5}}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": "a"}, "finish_reason": ["stop"]}]},
        {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": "many"}},
        {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 10**400}},
        {"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": -1}},
        {"choices": [{"message": {"content": "a"}}], "usage": 3},
        {"choices": {"0": 1}},
        {"choices": ["a"]},
        [],
        None,
    ],
)
def test_a_reply_of_another_form_is_no_completion(odd: Any) -> None:
    script = ScriptedServer(lambda *_: Response(json.dumps(odd), media_type="application/json"))
    with (
        chat_servers.serving(script.app) as url,
        ChatServer(chat_servers.settings(url, retries=0), where="judge") as server,
        pytest.raises(RequestFailed, match="the reply is not a completion"),
    ):
        server.complete("hello", max_tokens=7)


@pytest.mark.parametrize("header", ["²", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "9" * 5000, "-", "never"])
def test_advice_to_wait_that_is_none_raises_nothing(header: str) -> None:
    assert retry_after(header) in (None, float("inf"))
