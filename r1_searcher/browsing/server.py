"""The page's server: what it may serve, to whom, and the answers as JSON."""

from __future__ import annotations

import contextlib
import hmac
import json
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from r1_searcher.browsing import curves, details, queries
from r1_searcher.browsing.index import TrajectoryIndex
from r1_searcher.browsing.tokens import Tokenizers
from r1_searcher.errors import PipelineError
from r1_searcher.shown import visible

_STATIC = Path(__file__).with_name("static")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SECONDS = 3.0  # between two looks at the folders
_MOST_VALUES = 50  # per filter


@dataclass(frozen=True)
class PageSettings:
    """``token``: what a browser must have shown once; ``hosts``: Host names that requests may use; empty: any."""

    token: str
    hosts: tuple[str, ...]
    price: float | None = None


def make_app(index: TrajectoryIndex, tokenizers: Tokenizers, settings: PageSettings) -> FastAPI:
    """Return the application over an index, which it keeps up with the folders while it runs."""
    stop = threading.Event()

    def keep_up() -> None:
        while not stop.is_set():
            index.refresh(stop)
            stop.wait(_SECONDS)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        looking = threading.Thread(target=keep_up, daemon=True)
        looking.start()
        yield
        stop.set()
        looking.join()

    app = FastAPI(title="Trajectories", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_guard(settings))

    @app.get("/")
    def page() -> Response:
        return FileResponse(_STATIC / "index.html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        path = _STATIC / name
        if path.suffix not in _TYPES or path.name not in {one.name for one in _STATIC.iterdir()}:
            raise HTTPException(404)
        return FileResponse(path, media_type=_TYPES[path.suffix])

    @app.get("/api/state")
    def state() -> Response:
        return _json(_state(index))

    @app.get("/api/rows")
    def rows(request: Request) -> Response:
        asked = request.query_params
        with index.cursor() as at:
            found = queries.rows(
                at,
                _filters(request),
                sort=asked.get("sort", ""),
                order="desc" if asked.get("order") == "desc" else "asc",
                offset=_whole(asked.get("offset", "0"), 10**12),
                limit=_whole(asked.get("limit", "50"), queries.MOST_ROWS),
                added=index.added,
            )
        return _json({"rows": found, "version": index.version})

    @app.get("/api/count")
    def count(request: Request) -> Response:
        with index.cursor() as at:
            return _json(queries.count(at, _filters(request), index.added))

    @app.get("/api/facets")
    def facets(request: Request) -> Response:
        with index.cursor() as at:
            return _json(queries.facets(at, _filters(request), index.added))

    @app.get("/api/trajectory/{key}/{row}")
    def trajectory(key: str, row: int) -> Response:
        with index.cursor() as at:
            source = queries.source(at, key)
            line = None
            if source is not None and 0 <= row < 1 << 32:
                line = queries.row(at, source["source"], row, index.added)
        if source is None or line is None:
            raise HTTPException(404, "no such trajectory: its file is gone, or the link is of other folders")
        whole = details.read_row(Path(source["path"]), row)
        name = whole.get("trajectory_id") or ""
        rewards, advantages = (
            details.find_row(Path(source[one]) if source[one] else None, name, row) for one in ("rewards", "advantages")
        )
        made = details.trajectory(whole, rewards, advantages, tokenizers, Path(source["path"]))
        return _json({**made, "row": line, "file": source["name"], "place": row})

    @app.get("/api/question/{key}/{row}")
    def question(key: str, row: int) -> Response:
        with index.cursor() as at:
            source = queries.source(at, key)
            found = queries.of_question(at, source["source"], row, index.added) if source and 0 <= row < 1 << 32 else []
            return _json({"rows": found})

    @app.get("/api/curves")
    def all_curves() -> Response:
        with index.cursor() as at:
            return _json({"runs": curves.curves(index.folders.roots, at, settings.price)})

    app.exception_handler(PipelineError)(_failed)
    app.exception_handler(HTTPException)(_refused)
    return app


def _state(index: TrajectoryIndex) -> dict[str, Any]:
    """Return what is known of the folders as a whole."""
    with index.cursor() as at:
        number = queries.count(at, queries.Filters())["rows"]
        found = queries.bounds(at, index.added) if number else {}
    problems = [{"file": name, "says": says} for name, says in sorted(index.problems.items())]
    busy = not index.looked or index.done < index.todo
    return {
        "version": index.version,
        "rows": number,
        "indexing": {"done": index.done, "todo": index.todo, "busy": busy},
        "problems": problems[:100],
        "num_problems": len(problems),
        "bounds": found,
        "added": index.added,
        "folders": [str(root) for root in index.folders.roots],
    }


def _guard(
    settings: PageSettings,
) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """Only this machine's own page is answered, and only in a browser that was opened with the token."""

    async def check(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await _checked(request, go_on)
        response.headers.update(_HEADERS)
        return response

    async def _checked(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        host = request.headers.get("host", "")
        if settings.hosts and _name(host) not in settings.hosts:
            return _json({"detail": "is not served under this name"}, 421)
        if request.method not in ("GET", "HEAD"):
            return _json({"detail": "is only read"}, 405)
        site = request.headers.get("sec-fetch-site", "none")
        origin = request.headers.get("origin")
        if (origin is not None and origin != f"http://{host}") or (
            site not in ("none", "same-origin") and request.url.path != "/"
        ):
            return _json({"detail": "is not for pages of others"}, 403)
        cookie = f"r1_searcher_browse_{request.url.port or 80}"
        given = request.query_params.get("token")
        if (
            request.url.path == "/"
            and given is not None
            and hmac.compare_digest(given.encode(), settings.token.encode())
        ):
            rest = "&".join(part for part in request.url.query.split("&") if not part.startswith("token="))
            answer = RedirectResponse(f"/?{rest}" if rest else "/", 303)
            answer.set_cookie(cookie, settings.token, httponly=True, samesite="lax")
            return answer
        if not hmac.compare_digest(request.cookies.get(cookie, "").encode(), settings.token.encode()):
            line = "Open the address that `r1-searcher browse` printed, once; then this link works in this browser."
            return Response(line, 401, media_type="text/plain")
        return await go_on(request)

    return check


def _name(host: str) -> str:
    name = host.lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]


def _filters(request: Request) -> queries.Filters:
    """Return the filters of a query: text, a facet's name per allowed value, min_NAME, max_NAME, rule, question."""
    asked = request.query_params
    least: dict[str, float] = {}
    most: dict[str, float] = {}
    for bounds, begin in ((least, "min_"), (most, "max_")):
        for name, value in asked.items():
            if name.startswith(begin) and (number := _finite(value)) is not None:
                bounds[name.removeprefix(begin)] = number
    return queries.Filters(
        text=asked.get("text", "")[:1000].encode("utf-8", "replace").decode(),
        equal={name: asked.getlist(name)[:_MOST_VALUES] for name in queries.FACETS if name in asked},
        least=least,
        most=most,
        violations=asked.getlist("rule")[:_MOST_VALUES],
        question=asked.get("question", ""),
    )


def _finite(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        value = float(text)
        return value if math.isfinite(value) else None
    return None


def _whole(text: str, most: int) -> int:
    return min(int(text), most) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def _clean(value: Any) -> Any:
    """Return a value as JSON can carry it: control characters and changes of direction are visible, NaN is null."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {visible(str(name)): _clean(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return value


def _json(value: Any, status: int = 200) -> Response:
    # ASCII escapes carry lone surrogates through; the page shows them as U+FFFD.
    return Response(json.dumps(_clean(value), allow_nan=False), status, media_type="application/json")


async def _failed(request: Request, error: Exception) -> Response:
    return _json({"detail": str(error)}, 409)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"detail": str(error.detail)}, error.status_code)
