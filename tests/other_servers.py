"""Search servers of other projects on 127.0.0.1, rewritten from their sources over a few documents.

Each under an address of its own: ``{base}/search-r1`` is Search-R1's server (search_r1/search/retrieval_server.py),
``/serp`` and ``/rerank`` are its others, ``/r1-searcher`` is train/wiki_corpus_load.py of R1-Searcher, ``/research`` is
scripts/serving/retriever_serving.py of ReSearch. ``/odd/NAME`` answers anything with ``ODD_REPLIES[NAME]``.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

TOKEN = "a-token"
DOCUMENTS = [
    {"id": "7", "contents": '"Silent Castle"\nSilent Castle is a film.\nIt was directed by Ada Penn.'},
    {"id": "9", "contents": '"Ada Penn"\nAda Penn was born in Trabo.'},
    {"id": "11", "contents": '"Trabo"\nTrabo is a harbor.'},
]
LINES = [
    f"{d['id']}\t{d['contents'].split(chr(10))[0][1:-1]}   {' '.join(d['contents'].split(chr(10))[1:])}"
    for d in DOCUMENTS
]
BROKEN = "the query that breaks the server"

# status, headers, body
ODD_REPLIES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "html": (200, {}, b"<html><title>Sign in\x1b[2J</title>"),
    "nothing": (200, {}, b""),
    "number": (200, {}, b"3"),
    "empty": (200, {}, b"{}"),
    "short": (200, {}, b'{"result": [[]]}'),
    "long": (200, {}, b'{"result": [[], [], []]}'),
    "mixed": (200, {}, b'{"result": [[], 3]}'),
    "wordless": (200, {}, b'{"result": [[{"document": {"id": 1}}], []]}'),
    "score": (200, {}, b'{"result": [[{"document": "a\\nb", "score": NaN}], []]}'),
    "answers": (200, {}, b'{"queries": [], "answers": [[], []]}'),
    "moved": (307, {"Location": "http://search.example/retrieve"}, b""),
    "denied": (401, {}, b'{"detail": "who are you?"}'),
    "forbidden": (403, {}, b'{"error": "not you: a-token"}'),
    "echo": (200, {}, b"<html>Signed in as a-token</html>"),
    "echo-json": (200, {}, b'{"result": "a-token"}'),
    "busy": (503, {"Retry-After": "0"}, b"warming up"),
    "limited": (429, {"Retry-After": "0"}, b"slower"),
    "huge": (200, {}, b" " * 20_000),
}


class State:
    """What was asked, and where it is served."""

    def __init__(self) -> None:
        self.base = ""
        self.asked: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most = 100  # queries per request; more are answered by 413


class Retrieve(BaseModel):
    queries: list[str]
    topk: int | None = None
    return_scores: bool = False


class Document(BaseModel):
    id: str
    contents: str


class Query(BaseModel):
    query: str
    top_n: int = 10
    return_score: bool = False


class Batch(BaseModel):
    query: list[str]
    top_n: int = 10
    return_score: bool = False


def found(query: str, k: int) -> list[dict[str, str]]:
    """Return the documents that share a word with the query."""
    if query == BROKEN:
        raise RuntimeError("an index out of range")
    words = query.casefold().split()
    return [one for one in DOCUMENTS if any(word in one["contents"].casefold() for word in words)][:k]


def application(state: State) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def note(request: Request, call_next: Any) -> Response:
        body = json.loads(await request.body() or b"null")
        state.asked.append((request.url.path, body))
        state.headers.append(dict(request.headers))
        queries = body.get("queries", body.get("query")) if isinstance(body, dict) else None
        if isinstance(queries, list) and len(queries) > state.most:
            return Response(status_code=413)
        answer: Response = await call_next(request)
        return answer

    @app.post("/search-r1/retrieve")
    def retrieve(request: Retrieve) -> Any:
        results = [found(query, request.topk or 10) for query in request.queries]
        if not request.return_scores:
            return {"result": results}
        scored = [[{"document": doc, "score": 0.9 - 0.1 * rank} for rank, doc in enumerate(one)] for one in results]
        return {"result": scored}

    @app.post("/serp/retrieve")
    def serp(request: Retrieve) -> Any:  # ignores topk, has no scores and no ids
        return {"result": [[{"document": {"contents": one["contents"]}} for one in DOCUMENTS] for _ in request.queries]}

    @app.post("/rerank/retrieve")
    def rerank(request: Retrieve) -> Any:  # its documents are texts
        return {
            "result": [
                [{"document": one["contents"], "score": 1.5} for one in found(query, 3)] for query in request.queries
            ]
        }

    @app.post("/r1-searcher/queries")
    async def queries(request: Request) -> Any:
        data = await request.json()
        lines = dict(zip([one["id"] for one in DOCUMENTS], LINES, strict=True))
        answers = [[lines[one["id"]] for one in found(query, data.get("k", 3))] for query in data["queries"]]
        return {"queries": data["queries"], "answers": answers}

    @app.post("/research/search", response_model=tuple[list[Document], list[float]] | list[Document])
    async def search(request: Query) -> Any:
        if not request.query or not request.query.strip():
            raise HTTPException(status_code=400, detail="Query content cannot be empty")
        results = [Document(**one) for one in found(request.query, request.top_n)]
        return (results, [0.5] * len(results)) if request.return_score else results

    @app.post(
        "/research/batch_search",
        response_model=list[list[Document]] | tuple[list[list[Document]], list[list[float]]],
    )
    async def batch_search(request: Batch) -> Any:
        results = [[Document(**one) for one in found(query, request.top_n)] for query in request.query]
        return (results, [[0.5] * len(one) for one in results]) if request.return_score else results

    @app.get("/research/health")
    async def health() -> Any:
        return {"status": "healthy", "retrievers": {"total": 1, "available": 1}}

    @app.api_route("/odd/{name}/{path}", methods=["GET", "POST"])
    async def odd(name: str, path: str) -> Response:
        status, headers, body = ODD_REPLIES[name]
        return Response(body, status, headers, media_type="application/json")

    return app


@contextlib.contextmanager
def serve() -> Iterator[State]:
    """Run all of them during the block."""
    state = State()
    config = uvicorn.Config(application(state), host="127.0.0.1", port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until
        time.sleep(0.01)
    state.base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
