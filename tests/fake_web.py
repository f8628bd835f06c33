"""A web on 127.0.0.1: four search engines in their documented forms, and the pages that they list.

Faults are scripted per query, one per attempt: ``web.faults["who is Ada"] = ["500", "broken"]`` fails twice and then
answers. ``web.asked`` records every call, ``web.read`` every page.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

KEY = "a-key"
PAGES = {
    "ada": ("Ada", ["Ada Lovelace was a mathematician."] * 30 + ["Ada Lovelace was born in London in 1815."]),
    "rome": ("Rome", ["Rome is a city in Italy, on the river Tiber."] * 8),
}

ODD = {  # body and media type
    "image": (b"\x89PNG", "image/png"),
    "slow": (b"late", "text/plain"),
    "huge": (b"word " * 400_000, "text/plain"),
    "latin": ("Caf\xe9 Trabo".encode("latin-1"), "text/plain; charset=latin-1"),
    "scripts": (b"<html><head><script>x()</script></head><body></body></html>", "text/html"),
}
FORMS = {
    "timeout": "{}",
    "broken": '{"results": [',
    "deep": "[" * 100_000,
    "form": '{"anything": 1}',
    "quota": '{"error": "quota\\u001b[2J exceeded for a-key"}',
    "list": "[]",
    "silent": '{"results": [], "unresponsive_engines": [["duckduckgo", "timeout"]]}',
    "credits": '{"message": "Not enough credits", "statusCode": 400}',
}


class Web:
    """The server's state. ``base``: its address."""

    def __init__(self) -> None:
        self.base = ""
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.asked: list[dict[str, Any]] = []
        self.read: list[str] = []
        self.agents: set[str] = set()
        self.hits: dict[str, list[dict[str, Any]]] = {}  # of a query; others get the pages above
        self.pages: dict[str, tuple[str, list[str]]] = dict(PAGES)  # title and paragraphs, as HTML
        self.application = FastAPI()
        for path, answer in {"/serper": serper, "/tavily": tavily, "/brave": brave, "/searxng": searxng}.items():
            self.application.api_route(path, methods=["GET", "POST"])(self._engine(answer))
        self.application.get("/page/{name}")(self._page)

    def url(self, engine: str) -> str:
        return f"{self.base}/{engine}"

    def found(self, query: str) -> list[dict[str, Any]]:
        if query in self.hits:
            return self.hits[query]
        return [
            {"url": f"{self.base}/page/{name}", "title": title, "text": f"A snippet about {title}."}
            for name, (title, _) in PAGES.items()
        ]

    def _engine(self, answer: Callable[[Request, dict[str, Any], list[Any]], Response]) -> Any:
        async def handle(request: Request) -> Response:
            body = json.loads(await request.body() or b"{}")
            given = {**request.query_params, **body}
            query = str(given.get("q", given.get("query", "")))
            self.asked.append({"query": query, "headers": dict(request.headers), "given": given})
            fault = self.faults[query].pop(0) if self.faults[query] else ""
            if fault == "timeout":
                await asyncio.sleep(1.0)
            if fault:
                return broken(fault)
            return answer(request, given, self.found(query))

        return handle

    def _page(self, name: str, request: Request) -> Response:
        self.read.append(name)
        self.agents.add(request.headers["user-agent"])
        if name == "slow":
            time.sleep(2)
        if name in ODD:
            body, kind = ODD[name]
            return Response(body, media_type=kind)
        if name == "missing":
            return Response("gone", 404)
        if name in ("away", "inside"):
            place = f"{self.base}/page/ada" if name == "away" else "http://169.254.169.254/latest/meta-data"
            return Response(status_code=302, headers={"Location": place})
        title, paragraphs = self.pages[name]
        text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
        page = (
            f"<html><head><title>{title}</title></head><body><nav><a href='/'>Home</a> <a href='/x'>Imprint</a></nav>"
            f"<article><h1>{title}</h1>{text}</article><footer>All rights reserved</footer></body></html>"
        )
        return Response(page.encode("utf-8", "replace"), media_type="text/html")


def broken(fault: str) -> Response:
    """Return a faulty response. ``429:2`` has Retry-After: 2, ``302:/x`` the Location /x."""
    kind, _, after = fault.partition(":")
    if kind in FORMS:
        return Response(FORMS[kind], 400 if kind == "credits" else 200, media_type="application/json")
    headers = {"Location" if kind == "302" else "Retry-After": after} if after else {}
    return Response(f"status {kind} says {KEY}", int(kind), headers=headers)


def refused(key: str | None, wanted: str, status: int, said: str = '{"message": "Unauthorized."}') -> Response | None:
    return None if key == wanted else Response(said, status)


BRAVES_REFUSAL = """{"type": "ErrorResponse", "error": {"id": "5d832250-9396-4f6e-b84a-2a1fe524cd7d",
    "code": "SUBSCRIPTION_TOKEN_INVALID", "detail": "The provided subscription token is invalid.", "status": 422,
    "meta": {"component": "authentication"}}, "time": 1663072993}"""


def serper(request: Request, given: dict[str, Any], found: list[dict[str, str]]) -> Response:
    organic = [
        {"title": hit["title"], "link": hit["url"], "snippet": hit["text"], "position": place}
        for place, hit in enumerate(found[: int(given["num"])], 1)
    ]
    answer: dict[str, Any] = {"searchParameters": {"q": given["q"], "type": "search", "engine": "google"}}
    if organic:
        answer |= {"organic": organic, "relatedSearches": [{"query": "more"}]}
    assert request.method == "POST"
    return refused(request.headers.get("x-api-key"), KEY, 403) or as_json(answer)


def tavily(request: Request, given: dict[str, Any], found: list[dict[str, str]]) -> Response:
    results = [
        {"title": hit["title"], "url": hit["url"], "content": hit["text"], "score": 0.9, "raw_content": None}
        for hit in found[: given["max_results"]]
    ]
    assert request.method == "POST"
    answer = {"query": given["query"], "answer": None, "images": [], "results": results, "response_time": 1.2}
    return refused(request.headers.get("authorization"), f"Bearer {KEY}", 401) or as_json(answer)


def brave(request: Request, given: dict[str, Any], found: list[dict[str, str]]) -> Response:
    results = [
        {"title": hit["title"], "url": hit["url"], "description": f"<strong>{hit['text']}</strong> &amp; more"}
        for hit in found[: int(given["count"])]
    ]
    answer: dict[str, Any] = {"type": "search", "query": {"original": given["q"]}}
    if results:
        answer["web"] = {"type": "search", "results": results}
    assert request.method == "GET"
    return refused(request.headers.get("x-subscription-token"), KEY, 422, BRAVES_REFUSAL) or as_json(answer)


def searxng(request: Request, given: dict[str, Any], found: list[dict[str, str]]) -> Response:
    results = [{"title": hit["title"], "url": hit["url"], "content": hit["text"], "engine": "test"} for hit in found]
    answer = {"query": given["q"], "number_of_results": 0, "results": results, "unresponsive_engines": []}
    return as_json(answer) if given.get("format") == "json" else Response("<html>", 403)


def as_json(value: Any) -> Response:
    return Response(json.dumps(value), media_type="application/json")


@contextmanager
def serve() -> Iterator[Web]:
    """Run the web during the block."""
    web = Web()
    server = uvicorn.Server(uvicorn.Config(web.application, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the test's web server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    web.base = f"http://127.0.0.1:{port}"
    try:
        yield web
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive(), "the test's web server did not end"
