"""A real HTTP server with chat/completions and completions of the OpenAI API, scripted by the test."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from r1_searcher.params import ChatEndpoint

Answer = Callable[[dict[str, Any], int], "str | Response | float"]


def completion(text: str | None, *, usage: bool = True, finish_reason: str = "stop") -> JSONResponse:
    """Return a whole chat completion; with token counts: 10 prompt tokens and 2 completion tokens."""
    body: dict[str, Any] = {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}},
        ],
    }
    if usage:
        body["usage"] = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    return JSONResponse(body)


def continuation(text: str, *, finish_reason: str = "stop") -> JSONResponse:
    """Return a whole completion of a text, without token counts."""
    choice = {"index": 0, "finish_reason": finish_reason, "text": text, "logprobs": None}
    body = {"id": "cmpl-0", "object": "text_completion", "created": 0, "model": "scripted", "choices": [choice]}
    return JSONResponse(body)


def fault(status: int, message: str, **headers: str) -> JSONResponse:
    """Return an error in the API's form; ``retry_after`` becomes the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": {"message": message, "type": "test", "code": None}}, status, named)


class ScriptedServer:
    """``answer(body, number)`` gives the reply to the ``number``-th request: a text, a whole response, or the seconds
    to leave it waiting. ``requests`` records every request's body, key and time."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.busy = self.busiest = 0
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self._handle)
        self.app.post("/v1/completions")(self._handle)

    async def _handle(self, request: Request) -> Response:
        body = await request.json()
        number = len(self.requests)
        self.requests.append({**body, "key": request.headers.get("authorization"), "at": time.monotonic()})
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            said = self.answer(body, number)
            if isinstance(said, float):
                await asyncio.sleep(said)
                said = "late"
            if isinstance(said, str):
                return continuation(said) if "prompt" in body else completion(said)
            return said
        finally:
            self.busy -= 1


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` on a free port of 127.0.0.1, from a thread; yields the base URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)
        assert not thread.is_alive()


def settings(url: str, **changes: Any) -> ChatEndpoint:
    """Return a server's section of params.yaml: no key, few retries."""
    chosen = {"server": url, "model": "scripted", "concurrency": 8, "retries": 2, "timeout_seconds": 5.0}
    return ChatEndpoint(**{**chosen, **changes})
