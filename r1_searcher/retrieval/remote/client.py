"""``retriever.kind: service``: search through a server of ``python -m stages.index serve`` as if its index were local.

A server that does not answer, or is overloaded, is retried for ``retriever.service.wait`` seconds, so that it can be
restarted in the middle of a rollout. After that the queries fail with ``RetrieverError``. A server that comes back with
another retriever ends the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pydantic
import tenacity

from r1_searcher.errors import PipelineError
from r1_searcher.net import replies
from r1_searcher.net.retries import TryAgain, may_pass, retry_after, retrying
from r1_searcher.params import Service
from r1_searcher.retrieval import addresses
from r1_searcher.retrieval.remote.messages import Found, Health, SearchResponse, read_search_response
from r1_searcher.texts import parse_json
from r1_searcher.types.protocols import Passage, RetrieverError, whole

_WHERE = "params.yaml, retriever.service"
_CONNECT = 5.0  # seconds
_BACKOFF, _SLOWEST = 0.2, 2.0  # seconds between two attempts, if the server names none
MAX_ANSWER_BYTES = 64 << 20  # bytes of a response; searches that find more are sent in parts
_SHOWN = 200  # characters of the server's own message


class _Broken(Exception):
    """The server failed without saying more; the other queries may still succeed."""


class _TooLong(Exception):
    """The response exceeds the limit: send fewer queries."""


class Connection:
    """Requests to one server, retried as ``settings`` allow; connections are kept."""

    def __init__(self, settings: Service, sleep: Callable[[float], None] = time.sleep) -> None:
        self.url = _address(settings.url)
        # An index is in the user's own network: ignore the environment's proxies.
        asking = httpx.Client(timeout=httpx.Timeout(settings.timeout, connect=_CONNECT), trust_env=False)
        self._http = replies.limit(asking, seconds=settings.timeout, most=MAX_ANSWER_BYTES)
        self._wait = settings.wait
        self._gone = False  # no answer for the full wait: from now on a single attempt, until it answers
        stop = tenacity.stop_after_delay(self._wait)
        self._retrying = retrying(stop, backoff=_BACKOFF, longest=_SLOWEST, most_advised=self._wait, sleep=sleep)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> Health:
        """Return the server's description of itself. Raises ``PipelineError`` if there is no server."""
        try:
            answer = self._request("GET", "/health")
            return Health.model_validate_json(answer.content)
        except TryAgain as error:
            raise PipelineError(
                f"no retrieval service answers at {self.url}: {error}",
                where=f"{_WHERE}.url",
                fix="start it there: python -m stages.index serve",
            ) from None
        except (pydantic.ValidationError, _Broken, _TooLong):
            raise PipelineError(f"{self.url} is not a retrieval service", where=f"{_WHERE}.url") from None

    def search(self, body: bytes) -> SearchResponse:
        """Search. Raises ``TryAgain`` if no answer came in time, ``_Broken``, ``_TooLong``, ``PipelineError``."""
        answer = self._request("POST", "/search", body)
        try:
            return SearchResponse.model_validate_json(answer.content)
        except pydantic.ValidationError:
            raise PipelineError(f"{self.url} answers in another form", where=f"{_WHERE}.url") from None

    def _request(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        asking = self._retrying.copy(stop=tenacity.stop_after_attempt(1)) if self._gone else self._retrying
        try:
            answer: httpx.Response = asking(self._request_once, method, path, body)
        except TryAgain:
            self._gone = True
            raise
        self._gone = False
        return answer

    def _request_once(self, method: str, path: str, body: bytes | None) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._http.request(method, self.url + path, content=body, headers=headers)
        except httpx.TimeoutException:
            raise TryAgain("it did not answer in time") from None
        except replies.TooLong as error:
            raise _TooLong(str(error)) from None
        except httpx.TransportError as error:
            raise TryAgain(" ".join(str(error).split()) or type(error).__name__) from None
        if response.status_code == 200:
            return response
        said = _message(response)
        if response.status_code == 409:
            raise PipelineError(
                f"the service at {self.url} now serves another retriever: {said}",
                where=_WHERE,
                fix="start the former one again, or this command: it then begins with the present one",
            )
        if response.status_code == 500 and not _is_final(response):
            raise _Broken(said)
        if may_pass(response.status_code) and not _is_final(response):
            raise TryAgain(said, retry_after(response.headers.get("Retry-After")))
        raise PipelineError(f"the service at {self.url} refuses: {said}", where=_WHERE)


class ServiceRetriever:
    """The ``Retriever`` protocol over a server. ``fingerprint`` is that of the served retriever.

    Raises ``PipelineError`` if no server answers, or ``retriever.service.fingerprint`` names another retriever.
    """

    fingerprint: str

    def __init__(self, settings: Service, sleep: Callable[[float], None] = time.sleep) -> None:
        self._connection = Connection(settings, sleep)
        health = checked_health(self._connection, settings)
        self.fingerprint = health.fingerprint
        self._limits = health.limits

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the passages that the served retriever finds; equal queries are sent once."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if k > self._limits.max_k:
            raise PipelineError(f"the service finds at most {self._limits.max_k} passages, not {k}", where=_WHERE)
        known: dict[str, Found] = {}
        short: list[str] = []
        for query in dict.fromkeys(queries):
            if len(query) > self._limits.max_characters:
                known[query] = RetrieverError(f"the query has {len(query)} characters, too many for the service")
            else:
                short.append(query)
        for part in self._parts(short, k):
            known.update(zip(part, self._found(part, k), strict=True))
        return whole([known[query] for query in queries])

    def _parts(self, queries: Sequence[str], k: int) -> Iterator[list[str]]:
        """Yield the queries in requests within the server's limits."""
        part: list[str] = []
        room = most = self._limits.max_bytes - 200
        longest = max(1, min(self._limits.max_queries, self._limits.max_passages // k))
        for query in queries:
            size = len(json.dumps(query)) + 2
            if part and (len(part) == longest or size > room):
                yield part
                part, room = [], most
            part.append(query)
            room -= size
        if part:
            yield part

    def _found(self, queries: Sequence[str], k: int) -> list[Found]:
        body: dict[str, Any] = {"queries": list(queries), "k": k, "fingerprint": self.fingerprint}
        try:
            response = self._connection.search(json.dumps(body).encode())
        except TryAgain as error:
            return [RetrieverError(f"the service: {error}") for _ in queries]
        except _Broken as error:
            if len(queries) == 1:
                return [RetrieverError(f"the service: {error}")]
            return [entry for query in queries for entry in self._found([query], k)]
        except _TooLong as error:
            if len(queries) == 1:
                return [RetrieverError(f"the service: {error}")]
            half = len(queries) // 2
            return self._found(queries[:half], k) + self._found(queries[half:], k)
        if len(response.result) != len(queries) or len(response.errors) != len(queries):
            raise PipelineError(f"{self._connection.url} answers other queries than were asked", where=_WHERE)
        return read_search_response(response)


def checked_health(connection: Connection, settings: Service) -> Health:
    """Return the server's description of itself. Raises ``PipelineError`` if it serves another retriever than
    wanted."""
    health = connection.health()
    if settings.fingerprint not in ("", health.fingerprint):
        raise PipelineError(
            f"the service at {connection.url} serves retriever {health.fingerprint[:12]} ({health.description}), "
            f"not {settings.fingerprint[:12]}",
            where=f"{_WHERE}.fingerprint",
        )
    return health


def ask_health(settings: Service) -> Health:
    """Return the description of what the server of ``settings`` serves."""
    connection = Connection(settings)
    try:
        return checked_health(connection, settings)
    finally:
        connection.close()


def _address(url: str) -> str:
    addresses.checked_url(url, where=f"{_WHERE}.url", fix="e.g. http://127.0.0.1:8400")
    return url.rstrip("/")


def _message(response: httpx.Response) -> str:
    """Return the server's own message in one line."""
    try:
        words = str(parse_json(response.content)["detail"])
    except (ValueError, KeyError, TypeError):
        words = response.text
    line = " ".join(f"HTTP {response.status_code}: {words}".split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _is_final(response: httpx.Response) -> bool:
    """Return whether the served retriever reports that no further search can succeed."""
    try:
        return bool(parse_json(response.content)["stop"])
    except (ValueError, KeyError, TypeError):
        return False
