"""``r1-searcher serve``: a policy that searches behind OpenAI's API, with a chat page.

Statuses: 400 malformed, unsupported or too long, 401 no token, 403 a page of another origin, 404 another model, 413
too large, 421 another host name, 429 with Retry-After overloaded, 502 the retriever failed, 500 the engine failed, or a
bug.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException

from r1_searcher.asking.asker import QuestionTooLong
from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.remote.messages import Limits
from r1_searcher.retrieval.service import server as service
from r1_searcher.serving import access, forms
from r1_searcher.serving.answerer import Answerer
from r1_searcher.serving.lanes import Cancelled
from r1_searcher.serving.metrics import PolicyMetrics
from r1_searcher.serving.running import Answering
from r1_searcher.serving.slots import Busy, Slots

_log = logging.getLogger(__name__)
_PAGE = {
    "/": ("index.html", "text/html"),
    "/chat.js": ("chat.js", "text/javascript"),
    "/chat.css": ("chat.css", "text/css"),
}
_PATHS = (*_PAGE, forms.CHAT, forms.COMPLETIONS, "/v1/models", "/health", "/metrics")
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_HUNG_UP = 499  # as nginx notes it; nobody reads it
_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass(frozen=True)
class ServeSettings:
    """How the server behaves.

    Attributes:
        model: its name in requests and responses.
        running: questions that are answered together; waiting: those in the queue.
        token: what requests must carry; empty: none.
        hosts: names that requests may use; empty: any.
        grace: seconds for running answers after it is told to stop.
        tries: questions that the page offers.
    """

    model: str = "r1-searcher"
    running: int = 32
    waiting: int = 64
    token: str = ""
    hosts: tuple[str, ...] = ()
    grace: float = 30.0
    max_bytes: int = 1_000_000
    tries: tuple[str, ...] = ()

    def transport(self) -> service.Settings:
        """Return the settings of the HTTP server."""
        return service.Settings(hosts=self.hosts, grace=self.grace, limits=Limits(max_bytes=self.max_bytes))


def make_policy_app(answerer: Answerer, settings: ServeSettings, *, policy: str = "") -> FastAPI:
    """Return the application. It closes ``answerer`` at its end. ``policy``: its name, for /metrics."""
    counted = PolicyMetrics(model=settings.model, policy=policy, retriever=answerer.retriever.fingerprint)
    slots = Slots(running=settings.running, waiting=settings.waiting)
    threads = ThreadPoolExecutor(settings.running, thread_name_prefix="question")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(answerer.close)
        threads.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="Policy", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(access.Access, token=settings.token, refuse=_error)
    app.add_middleware(
        service.RequestGuard, settings=settings.transport(), note=counted.note_request, paths=_PATHS, refuse=_error
    )

    @app.post(forms.CHAT)
    async def chat(request: Request, asked: forms.ChatRequest) -> Response:
        return await respond(request, asked, forms.CHAT)

    @app.post(forms.COMPLETIONS)
    async def completions(request: Request, asked: forms.CompletionRequest) -> Response:
        return await respond(request, asked, forms.COMPLETIONS)

    async def respond(request: Request, asked: forms.ChatRequest | forms.CompletionRequest, path: str) -> Response:
        if asked.model and asked.model != settings.model:
            raise forms.BadRequest(
                f"the model {asked.model!r} is not served; this is {settings.model!r}"[:300],
                "model",
                status=404,
                code="model_not_found",
            )
        answering = Answering(answerer, asked, forms.ResponseForm(path, settings.model), slots, threads, counted)
        if not asked.stream:
            whole = await _unless_gone(request, answering.whole())
            return Response(status_code=_HUNG_UP) if whole is None else _json(whole)
        events = answering.events()
        first = await _unless_gone(request, anext(events))  # what is wrong is found before a status is sent
        if first is None:
            return Response(status_code=_HUNG_UP)
        return StreamingResponse(
            _server_sent(first, events), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @app.get("/v1/models")
    async def models() -> Response:
        return _json({"object": "list", "data": [model()]})

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> Response:
        if name != settings.model:
            raise HTTPException(404, "no such model")
        return _json(model())

    def model() -> dict[str, Any]:
        return {"id": settings.model, "object": "model", "created": 0, "owned_by": "r1-searcher"}

    @app.get("/health")
    async def health() -> Response:
        return _json({"status": "ok", "running": slots.running, "waiting": slots.waiting})

    @app.get("/metrics")
    async def counters() -> Response:
        counted.running.set(slots.running)
        counted.waiting.set(slots.waiting)
        return Response(counted.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/favicon.ico")
    async def no_icon() -> Response:
        return Response(status_code=204)

    @app.get("/tries")
    async def tries() -> Response:
        return _json({"questions": list(settings.tries)})

    for path, (name, kind) in _PAGE.items():
        text = resources.files("r1_searcher.serving").joinpath("page", name).read_text(encoding="utf-8")
        app.add_api_route(path, _static(text, kind), methods=["GET"])
    for route in app.routes:
        if isinstance(route, APIRoute) and "GET" in route.methods:
            route.methods.add("HEAD")  # what monitors ask with

    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(StarletteHTTPException)(_http)
    app.exception_handler(forms.BadRequest)(_bad)
    app.exception_handler(Busy)(_busy)
    app.exception_handler(PipelineError)(_pipeline)
    app.exception_handler(Exception)(_bug)
    return app


async def _unless_gone(request: Request, awaited: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the result; None if the client hangs up first: what was awaited is cancelled."""
    answer, gone = asyncio.create_task(awaited), asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None
    finally:
        gone.cancel()
        answer.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await answer


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _server_sent(first: dict[str, Any], events: AsyncGenerator[dict[str, Any]]) -> AsyncIterator[str]:
    """Yield events as SSE. An error after the first one is an event too: the status is sent."""
    try:
        yield f"data: {json.dumps(first)}\n\n"
        async for event in events:
            yield f"data: {json.dumps(event)}\n\n"
        yield "data: [DONE]\n\n"
    except (PipelineError, Cancelled, forms.BadRequest) as error:
        yield f"data: {json.dumps(forms.error_body(str(error) or 'cancelled', 'server_error'))}\n\n"
    finally:
        await events.aclose()


def _static(text: str, kind: str) -> Any:
    async def page() -> Response:
        return Response(text, media_type=f"{kind}; charset=utf-8", headers=_PAGE_HEADERS)

    return page


def _json(body: dict[str, Any], status: int = 200) -> Response:
    # Lone surrogates, which a corpus can contain, are not UTF-8: ASCII escapes carry them through.
    return Response(json.dumps(body, allow_nan=False), status, media_type="application/json")


def _error(status: int, line: str, param: str | None = None, code: str | None = None) -> Response:
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    response = _json(forms.error_body(line, kind, param, code), status)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()[:3]
    if any(fault["type"] == "json_invalid" for fault in faults):
        return _error(400, "the request is not JSON")
    named = [(".".join(str(part) for part in fault["loc"][1:]), fault["msg"]) for fault in faults]
    line = "; ".join(f"{place or 'the request'}: {said}" for place, said in named)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        line += " (send it with Content-Type: application/json)"
    return _error(400, line, named[0][0] or None)  # not what was sent, which can be of any size


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    line = f"there is no such path; the API is at {forms.CHAT}" if error.detail == "Not Found" else str(error.detail)
    response = _error(error.status_code, line)
    response.headers.update(error.headers or {})  # Allow, with 405
    return response


async def _bad(request: Request, error: Exception) -> Response:
    assert isinstance(error, forms.BadRequest)
    return _error(error.status, str(error), error.param, error.code)


async def _busy(request: Request, error: Exception) -> Response:
    assert isinstance(error, Busy)
    response = _error(429, str(error), code="rate_limit_exceeded")
    response.headers["Retry-After"] = str(error.after)
    return response


async def _pipeline(request: Request, error: Exception) -> Response:
    assert isinstance(error, PipelineError)
    if isinstance(error, QuestionTooLong):
        return _error(400, error.what, code="context_length_exceeded")
    _log.error("%s", error)
    return _error(500, str(error))


async def _bug(request: Request, error: Exception) -> Response:
    return _error(500, "a bug; see the server's terminal")
