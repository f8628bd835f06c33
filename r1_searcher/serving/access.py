"""Who may use the server: a token if it is not on loopback, and no web page of another origin."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from r1_searcher.errors import PipelineError

TOKEN_VARIABLE = "R1_SEARCHER_TOKEN"
OPEN = ("/", "/health", "/chat.js", "/chat.css", "/favicon.ico")  # without a token: they say nothing about anybody
_SHORTEST = 16  # characters of a token

Refuse = Callable[[int, str], Response]


def read_token(file: Path | None, *, loopback: bool) -> str:
    """Return the token from a file or the environment; empty if none is needed.

    Raises ``PipelineError`` if one is needed and not given, and for one that can be guessed.
    """
    if file is not None:
        try:
            token, where = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise PipelineError(f"cannot be read: {error}", where=str(file)) from None
        if not token:
            raise PipelineError("the file of the token is empty", where=where)
    else:
        token, where = os.environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
    if not token and not loopback:
        raise PipelineError(
            "a server that other machines can reach needs a token",
            where="--host",
            fix=f"set {TOKEN_VARIABLE}, or give --token-file",
        )
    if token and (len(token) < _SHORTEST or not token.isascii() or not token.isprintable()):
        raise PipelineError(f"a token has at least {_SHORTEST} plain characters", where=where)
    return token


@dataclass(frozen=True)
class Access:
    """Refuses requests of pages of other origins (403), and those without the token (401)."""

    app: ASGIApp
    token: str
    refuse: Refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin, app = headers.get("origin"), self.app
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            app = self.refuse(403, "not for pages of other origins")
        elif self.token and scope["path"] not in OPEN and not self._is_known(headers.get("authorization", "")):
            app = self.refuse(401, "a token is needed: Authorization: Bearer TOKEN")
        await app(scope, receive, send)

    def _is_known(self, header: str) -> bool:
        kind, _, given = header.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode())
