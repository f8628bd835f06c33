"""``retriever.service.form``: search through a server of another project that already runs.

Such a server names neither its index nor its limits. So the user's name stands for what it searches, and one request
when it is opened shows that it answers in the form, with one result per query. After that a query that the server
refuses, or answers with something else, fails alone; a reply to another number of queries ends the run, because its
results belong to nobody knows which.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from r1_searcher.errors import PipelineError
from r1_searcher.net.retries import TryAgain
from r1_searcher.params import Service
from r1_searcher.retrieval.remote.client import (
    SERVICE_SECTION,
    Broken,
    Connection,
    RequestRefused,
    TooMuch,
    advice,
    spoken_forms,
)
from r1_searcher.retrieval.remote.forms import SERVICE_FORMS, AnotherForm, appearance, service_fingerprint
from r1_searcher.retrieval.remote.messages import Found
from r1_searcher.texts import parse_json
from r1_searcher.types.protocols import Passage, RetrieverError, whole

_QUERIES = 256  # per request; a server that refuses so many with 413 gets fewer
_CALLS = 8  # simultaneous requests of a form with one query per request
_SHOWN, _SHOWN_BYTES = 60, 4096  # of a reply of another form: characters of its text, bytes that are looked at
_TRIAL = ("test", "another test")  # two queries: a server that answers only the first is found out


class OtherServiceRetriever:
    """The ``Retriever`` protocol over a server of another project.

    Raises ``PipelineError`` if no server answers, or not in the form.
    """

    fingerprint: str

    def __init__(self, settings: Service, sleep: Callable[[float], None] = time.sleep) -> None:
        self._form = SERVICE_FORMS[settings.form]
        self.fingerprint = service_fingerprint(settings.form, settings.name)
        self._connection = Connection(settings, sleep, self._form.path)
        self._place = f"the service at {self._connection.url}"
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the first ``k`` passages that the server finds per query; equal queries are sent once."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        asked = list(dict.fromkeys(queries))
        size = _QUERIES if self._form.batch else 1
        parts = [asked[start : start + size] for start in range(0, len(asked), size)]
        with ThreadPoolExecutor(1 if self._form.batch else _CALLS) as pool:
            found = list(pool.map(lambda part: self._found(part, k), parts))
        known = {
            query: entry
            for part, entries in zip(parts, found, strict=True)
            for query, entry in zip(part, entries, strict=True)
        }
        return whole([known[query] for query in queries])

    def _found(self, queries: Sequence[str], k: int) -> list[Found]:
        """Return an entry per query. What fails for several queries is asked again in two halves."""
        try:
            return [entry[:k] for entry in self._ask(queries, k)]
        except TryAgain as error:
            return [RetrieverError(f"the service: {error}") for _ in queries]
        except (Broken, TooMuch, RequestRefused, AnotherForm) as error:
            if len(queries) == 1:
                said = error.what if isinstance(error, RequestRefused) else f"the service: {error}"
                return [RetrieverError(said)]
        half = len(queries) // 2
        return self._found(queries[:half], k) + self._found(queries[half:], k)

    def _ask(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Send one request. Raises ``AnotherForm``, and what ``Connection.request`` raises."""
        body = json.dumps(self._form.body(queries, k)).encode()
        content = self._connection.request("POST", self._form.path, body).content
        try:
            reply = parse_json(content)
        except ValueError:
            text = content[:_SHOWN_BYTES].decode("utf-8", "replace")
            raise AnotherForm(
                f"no JSON but {self._connection.shown(text, longest=_SHOWN)!r}" if text.strip() else "nothing"
            ) from None
        try:
            found = self._form.read(reply, len(queries))
        except AnotherForm as error:
            seen = appearance(reply)
            said = seen if str(error) == seen else f"{seen}: {error}"
            raise AnotherForm(self._connection.shown(said, longest=5 * _SHOWN)) from None
        if len(found) != len(queries):
            raise PipelineError(
                f"{self._place} answers {len(queries)} queries with {len(found)} results",
                where=SERVICE_SECTION,
                fix="it must give one result per query, an empty one if nothing is found",
            )
        return found

    def _check(self) -> None:
        """Raise ``PipelineError`` unless the server answers in the form."""
        form = self._form
        try:
            self._ask(_TRIAL if form.batch else _TRIAL[:1], 1)
        except TryAgain as error:
            raise PipelineError(
                f"no server answers at {self._connection.url}: {error}", where=f"{SERVICE_SECTION}.url"
            ) from None
        except (AnotherForm, RequestRefused, Broken, TooMuch) as error:
            came = error.what.partition("refuses: ")[2] if isinstance(error, RequestRefused) else str(error)
            spoken = [name for name in spoken_forms(self._connection) if name != form.name]
            fix = advice(spoken)
            raise PipelineError(
                f"{self._place} does not answer in the form {form.name} (POST {form.path}): what came is {came}",
                where=f"{SERVICE_SECTION}.form",
                fix=fix,
            ) from None
