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
from r1_searcher.keys import read_key
from r1_searcher.net import replies
from r1_searcher.net.retries import TryAgain, may_pass, retry_after, retrying
from r1_searcher.net.words import in_one_line, redirect_target
from r1_searcher.params import Service
from r1_searcher.retrieval import addresses
from r1_searcher.retrieval.remote.forms import SERVICE_FORMS, AnotherForm
from r1_searcher.retrieval.remote.messages import Found, Health, SearchResponse, read_search_response
from r1_searcher.texts import parse_json
from r1_searcher.types.protocols import Passage, RetrieverError, whole

SERVICE_SECTION = "params.yaml, retriever.service"
_CONNECT = 5.0  # seconds
_BACKOFF, _SLOWEST = 0.2, 2.0  # seconds between two attempts, if the server names none
_TRIAL = "test"  # a query that finds out what a server speaks
_SAID = ("detail", "error", "message")  # fields of JSON in which servers say what is wrong
MAX_ANSWER_BYTES = 64 << 20  # bytes of a response; searches that find more are sent in parts


class Broken(Exception):
    """The server failed without saying more; the other queries may still succeed."""


class TooMuch(Exception):
    """The request or its response exceeds a limit: send fewer queries."""


class RequestRefused(PipelineError):
    """The server does not take this request."""


class Connection:
    """Requests to one server, retried as ``settings`` allow; connections are kept.

    ``path``: of searches; an address that ends in it is accepted as well.
    """

    def __init__(self, settings: Service, sleep: Callable[[float], None] = time.sleep, path: str = "") -> None:
        self.url = _address(settings.url, path)
        self._variable = settings.key_variable
        self._key = read_key(
            settings.key_variable,
            settings.url,
            where=f"{SERVICE_SECTION}.key_variable",
            fix="export the server's token under that name",
        )
        # An index is in the user's own network: ignore the environment's proxies.
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = httpx.Timeout(settings.timeout, connect=_CONNECT)
        asking = httpx.Client(timeout=timeout, trust_env=False, headers=headers)
        self._http = replies.limit(asking, seconds=settings.timeout, most=MAX_ANSWER_BYTES)
        self._timeout, self._wait = settings.timeout, settings.wait
        self._gone = False  # no answer for the full wait: from now on a single attempt, until it answers
        stop = tenacity.stop_after_delay(self._wait)
        self._retrying = retrying(stop, backoff=_BACKOFF, longest=_SLOWEST, most_advised=self._wait, sleep=sleep)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def shown(self, text: str, *, longest: int) -> str:
        """Return what the server says in one line, without the key, which it may repeat."""
        return in_one_line(text, key=self._key, longest=longest)

    def health(self) -> Health:
        """Return the server's description of itself. Raises ``PipelineError`` if there is no server."""
        try:
            answer = self.request("GET", "/health")
            return Health.model_validate_json(answer.content)
        except TryAgain as error:
            raise PipelineError(
                f"no retrieval service answers at {self.url}: {error}",
                where=f"{SERVICE_SECTION}.url",
                fix="start it there: python -m stages.index serve",
            ) from None
        except (pydantic.ValidationError, Broken, TooMuch, RequestRefused) as error:
            said = f": {error.what}" if isinstance(error, RequestRefused) else ""
            raise PipelineError(
                f"{self.url} is not a retrieval service of this project{said}",
                where=f"{SERVICE_SECTION}.url",
                fix=advice(spoken_forms(self)),
            ) from None

    def search(self, body: bytes) -> SearchResponse:
        """Search. Raises ``TryAgain`` if no answer came in time, ``Broken``, ``TooMuch``, ``PipelineError``."""
        answer = self.request("POST", "/search", body)
        try:
            return SearchResponse.model_validate_json(answer.content)
        except pydantic.ValidationError:
            raise PipelineError(f"{self.url} answers in another form", where=f"{SERVICE_SECTION}.url") from None

    def request(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        """Return a response with status 200. Raises as ``search``, ``RequestRefused`` among the ``PipelineError``."""
        asking = self._retrying.copy(stop=tenacity.stop_after_attempt(1)) if self._gone else self._retrying
        try:
            answer: httpx.Response = asking(self.request_once, method, path, body)
        except TryAgain:
            self._gone = True
            raise
        self._gone = False
        return answer

    def request_once(self, method: str, path: str, body: bytes | None) -> httpx.Response:
        """As ``request``, in one attempt."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._http.request(method, self.url + path, content=body, headers=headers)
        except httpx.TimeoutException:
            raise TryAgain(f"it did not answer within {self._timeout:g} s") from None
        except replies.TooLong as error:
            raise TooMuch(str(error)) from None
        except httpx.TransportError as error:
            raise TryAgain(in_one_line(str(error) or type(error).__name__, key=self._key)) from None
        if response.status_code == 200:
            return response
        raise self._refusal(response)

    def _refusal(self, response: httpx.Response) -> Exception:
        status, said, final = response.status_code, _message(response, self._key), _is_final(response)
        if status == 413:
            return TooMuch(said)
        if status == 500 and not final:
            return Broken(said)
        if may_pass(status) and not final:
            return TryAgain(said, retry_after(response.headers.get("Retry-After")))
        return self._not_for_us(response, said) or RequestRefused(
            f"the service at {self.url} refuses: {said}", where=SERVICE_SECTION
        )

    def _not_for_us(self, response: httpx.Response, said: str) -> PipelineError | None:
        """Return the error of a response that no other request would change, or None."""
        if response.status_code == 409:
            return PipelineError(
                f"the service at {self.url} now serves another retriever: {said}",
                where=SERVICE_SECTION,
                fix="start the former one again; or run this command again, which then begins with the present one",
            )
        if response.status_code in (401, 403):
            got = f"the token in ${self._variable}" if self._variable else "requests without a token"
            return PipelineError(
                f"the service at {self.url} refuses {got}: {said}",
                where=f"{SERVICE_SECTION}.key_variable",
                fix="check the token" if self._variable else "name the environment variable that holds it",
            )
        if target := redirect_target(response, key=self._key):
            return PipelineError(
                f"the service at {self.url} {target} (HTTP {response.status_code})",
                where=f"{SERVICE_SECTION}.url",
                fix="give the address that answers by itself",
            )
        return None


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
            raise PipelineError(
                f"the service finds at most {self._limits.max_k} passages, not {k}", where=SERVICE_SECTION
            )
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
        except Broken as error:
            if len(queries) == 1:
                return [RetrieverError(f"the service: {error}")]
            return [entry for query in queries for entry in self._found([query], k)]
        except TooMuch as error:
            if len(queries) == 1:
                return [RetrieverError(f"the service: {error}")]
            half = len(queries) // 2
            return self._found(queries[:half], k) + self._found(queries[half:], k)
        if len(response.result) != len(queries) or len(response.errors) != len(queries):
            raise PipelineError(f"{self._connection.url} answers queries that were not asked", where=SERVICE_SECTION)
        return read_search_response(response)


def checked_health(connection: Connection, settings: Service) -> Health:
    """Return the server's description of itself. Raises ``PipelineError`` if it serves another retriever than
    wanted."""
    health = connection.health()
    if settings.fingerprint not in ("", health.fingerprint):
        raise PipelineError(
            f"the service at {connection.url} serves retriever {health.fingerprint[:12]} ({health.description}), "
            f"not {settings.fingerprint[:12]}",
            where=f"{SERVICE_SECTION}.fingerprint",
        )
    return health


def ask_health(settings: Service) -> Health:
    """Return the description of what the server of ``settings`` serves."""
    connection = Connection(settings)
    try:
        return checked_health(connection, settings)
    finally:
        connection.close()


def spoken_forms(connection: Connection) -> list[str]:
    """Return the forms of other projects in which the server answers a search, each tried once."""
    found = []
    for form in SERVICE_FORMS.values():
        try:
            answer = connection.request_once("POST", form.path, json.dumps(form.body([_TRIAL], 1)).encode())
            if len(form.read(parse_json(answer.content), 1)) == 1:
                found.append(form.name)
        except (TryAgain, Broken, TooMuch, PipelineError, AnotherForm, ValueError):
            continue
    return found


def advice(forms: Sequence[str]) -> str:
    """Return what to do about a server of another form than asked, given those that it speaks."""
    if forms:
        return f"it answers in the form {' and '.join(forms)}: set retriever.service.form"
    return f"it answers in none of the known forms: own, {', '.join(SERVICE_FORMS)}"


def _address(url: str, path: str = "") -> str:
    addresses.checked_url(url, where=f"{SERVICE_SECTION}.url", fix="e.g. http://127.0.0.1:8400")
    return url.rstrip("/").removesuffix(path).rstrip("/")


def _message(response: httpx.Response, key: str) -> str:
    """Return the server's own message in one line."""
    try:
        answer = parse_json(response.content)
        words = next(answer[name] for name in _SAID if answer.get(name))
    except (ValueError, AttributeError, TypeError, StopIteration):
        words = response.text
    return in_one_line(f"HTTP {response.status_code}: {words}", key=key)


def _is_final(response: httpx.Response) -> bool:
    """Return whether the served retriever reports that no further search can succeed."""
    try:
        return bool(parse_json(response.content)["stop"])
    except (ValueError, KeyError, TypeError):
        return False
