"""``python -m stages.index serve``: a retriever behind HTTP.

``/search``, ``/retrieve``, ``/queries`` and ``/batch_search`` search (messages.py), ``/health`` describes what is
served, ``/metrics`` counts. Statuses: 422 malformed request, 413 too large, 409 another retriever expected, 502 a
search failed after its retries, 503 with Retry-After overloaded, 500 the retriever cannot continue, or a bug.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Discriminator, Tag
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.remote import messages
from r1_searcher.retrieval.service import connection_limits, metrics
from r1_searcher.retrieval.service.batches import Batches, Overloaded
from r1_searcher.types.protocols import Passage, Retriever, RetrieverError, search_each, whole
from r1_searcher.types.retriever_kind import Identity

_log = logging.getLogger(__name__)
# How much of a too large request is read and discarded, times max_bytes, within its time: else a client that is still
# sending gets a reset connection and not the reason.
_DRAINED = 64
PATHS = ("/search", "/retrieve", "/queries", "/batch_search", "/health", "/metrics")

_FORMS = ("form own", "form flashrag-search")  # of a body for /search


def _form_of(body: Any) -> str:
    return _FORMS[isinstance(body, dict) and "query" in body]


_Search = Annotated[
    Annotated[messages.SearchRequest, Tag(_FORMS[0])] | Annotated[messages.QueryRequest, Tag(_FORMS[1])],
    Discriminator(_form_of),
]


@dataclass(frozen=True)
class Settings:
    """How a server behaves. ``max_batch``, ``max_waiting``: queries; ``max_wait``, ``grace``: seconds."""

    max_batch: int = 256
    max_waiting: int = 8192
    max_wait: float = 20.0  # in the queue
    max_connections: int = 1024
    max_connections_a_client: int = 256  # per address
    seconds: float = 30.0  # for a request to arrive, and for an unread response
    hosts: tuple[str, ...] = ()  # Host names that requests may use; empty: any. On loopback, its own names
    grace: float = 30.0  # for running requests after it is told to stop
    limits: messages.Limits = field(default_factory=messages.Limits)


def make_app(retriever: Retriever, identity: Identity, kind: str, settings: Settings) -> FastAPI:
    """Return the application over an opened retriever."""
    counted = metrics.Metrics(kind=kind, fingerprint=retriever.fingerprint, corpus=identity.corpus)
    batches = Batches(
        partial(search_each, retriever),
        counted,
        max_batch=settings.max_batch,
        max_waiting=settings.max_waiting,
        max_wait=settings.max_wait,
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        searching = asyncio.create_task(batches.run())
        yield
        searching.cancel()
        batches.close()

    app = FastAPI(title="Retrieval service", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(RequestGuard, settings=settings, note=counted.note_request)

    async def search(queries: Sequence[str], k: int) -> list[messages.Found]:
        fault = settings.limits.fault(queries, k)
        if fault is not None:
            raise HTTPException(422, fault)
        # Lone surrogates, which JSON can carry and tokenizers may reject, become question marks.
        found = await batches.ask([query.encode("utf-8", "replace").decode() for query in queries], k)
        counted.failed.inc(sum(isinstance(entry, RetrieverError) for entry in found))
        return found

    async def passages(queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Search for the forms without errors per query: a failed query fails its request."""
        return whole(await search(queries, k))

    @app.post("/search")
    async def own(request: _Search) -> Response:
        if isinstance(request, messages.QueryRequest):
            found = await passages([request.query], request.top_n)
            answer = messages.batch_query_response(found, scores=request.return_score)
            return _json([part[0] for part in answer] if request.return_score else answer[0])
        if request.fingerprint not in ("", retriever.fingerprint):
            raise HTTPException(409, f"this is retriever {retriever.fingerprint}")
        return _json(messages.search_response(retriever.fingerprint, await search(request.queries, request.k)))

    @app.post("/retrieve")
    async def search_r1(request: messages.RetrieveRequest) -> Response:
        found = await passages(request.queries, request.topk or messages.DEFAULT_K)
        return _json(messages.retrieve_response(found, scores=request.return_scores))

    @app.post("/queries")
    async def r1_searcher(request: messages.QueriesRequest) -> Response:
        return _json(messages.queries_response(request.queries, await passages(request.queries, request.k)))

    @app.post("/batch_search")
    async def research(request: messages.BatchQueryRequest) -> Response:
        found = await passages(request.query, request.top_n)
        return _json(messages.batch_query_response(found, scores=request.return_score))

    @app.get("/health")
    async def health() -> messages.Health:
        return messages.Health(
            status="ok",
            kind=kind,
            fingerprint=retriever.fingerprint,
            corpus=identity.corpus,
            description=identity.description,
            waiting=batches.waiting,
            limits=settings.limits,
        )

    @app.get("/metrics")
    async def counters() -> Response:
        return Response(counted.text(), media_type=metrics.CONTENT_TYPE)

    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(Overloaded)(_overloaded)
    app.exception_handler(RetrieverError)(_failed)
    app.exception_handler(PipelineError)(_stopped)
    return app


def _json(body: dict[str, Any] | list[Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # Lone surrogates, which a corpus can contain, are not UTF-8: ASCII escapes carry them through.
    return Response(json.dumps(body, allow_nan=False), status, headers, media_type="application/json")


def _error(status: int, line: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    return _json({"detail": line, **more}, status, headers)


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'] if part not in _FORMS)}: {fault['msg']}"
        for fault in error.errors()[:3]
    ]
    return _error(422, "; ".join(faults))  # not what was sent, which can be of any size


async def _overloaded(request: Request, error: Exception) -> Response:
    assert isinstance(error, Overloaded)
    return _error(503, str(error), {"Retry-After": str(error.after)})


async def _failed(request: Request, error: Exception) -> Response:
    return _error(502, f"a search failed: {error}")


async def _stopped(request: Request, error: Exception) -> Response:
    _log.error("%s", error)
    return _error(500, str(error), stop=True)


class RequestGuard:
    """Refuses bodies that are too large or too slow before reading them whole, and tells ``note`` every request's path,
    status and seconds; ``paths``: those that are told by name. ``refuse`` makes a refusal of a status and a line."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        note: Callable[[str, int, float], None],
        paths: Sequence[str] = PATHS,
        refuse: Callable[[int, str], Response] = _error,
    ) -> None:
        self._app, self._most, self._note, self._paths = app, settings.limits.max_bytes, note, paths
        self._seconds, self._hosts, self._refuse = settings.seconds, settings.hosts, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, read, more = time.perf_counter(), 500, 0, True

        async def coming() -> Message:
            nonlocal more
            if not more:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, self._seconds + began - time.perf_counter()))
            except TimeoutError:
                raise HTTPException(408, f"a request is whole within {self._seconds:g} s") from None
            more = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def drained() -> None:
            """Read and discard: a client that is still sending would not read the response."""
            left = _DRAINED * self._most
            with contextlib.suppress(HTTPException):
                while more and left > 0:
                    left -= len((await coming()).get("body", b""))

        async def limited() -> Message:
            nonlocal read
            message = await coming()
            read += len(message.get("body", b""))
            if read > self._most:
                await drained()
                raise HTTPException(413, f"a request has at most {self._most} bytes")
            return message

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        try:
            if self._hosts and _host(headers.get(b"host", b"")) not in self._hosts:
                line = f"this server has another host name: use {', '.join(sorted(self._hosts))}"
                await self._refuse(421, line)(scope, receive, noting)
            elif announced.isdigit() and int(announced) > self._most:
                await drained()
                refusal = self._refuse(413, f"a request has at most {self._most} bytes")
                refusal.headers["Connection"] = "close"
                await refusal(scope, receive, noting)
            else:
                await self._app(scope, limited, noting)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._note(path, status, time.perf_counter() - began)


def _host(header: bytes) -> str:
    """Return the name in a Host header, without its port."""
    name = header.decode("latin-1").lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]


def own_hosts(host: str, bound: str) -> tuple[str, ...]:
    """Return the names by which a server on ``bound``, told ``host``, may be addressed: any (empty) unless only this
    machine reaches it.

    A web page whose name resolves to 127.0.0.1 (DNS rebinding) is then refused.
    """
    if not ipaddress.ip_address(bound.partition("%")[0]).is_loopback:
        return ()
    return tuple({f"[{name}]" if ":" in name else name.lower() for name in (host, bound, "localhost", "127.0.0.1")})


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0: any free one. Raises ``PipelineError`` if it cannot listen."""
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(2048)
        except OSError:
            bound.close()
            raise
    except (OSError, OverflowError) as error:  # an invalid name is an OSError too
        reason = getattr(error, "strerror", None) or str(error)
        raise PipelineError(
            f"cannot listen here: {reason}", where=where, fix="choose another --port or --host"
        ) from None
    return bound


def make_server(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    """Return a server; its ``run(sockets=[…])`` ends at SIGTERM or Ctrl-C after the running requests."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
        timeout_keep_alive=60,
        http=connection_limits.protocol(seconds=settings.seconds, connections=settings.max_connections_a_client),
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """uvicorn re-raises the signal after it has stopped; here the command ends with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # only the main thread has signals
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
