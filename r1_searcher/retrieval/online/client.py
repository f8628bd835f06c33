"""Calls of a search engine's API: rate-limited, retried with back-off, within a budget, one at a time per thread.

Transient failures (time-outs, lost connections, 408, 425, 429, 5xx, malformed responses) are retried. Permanent ones
are raised at once: ``RetrieverError`` for one query, ``SearchStopped``, which ends the run, if no query can succeed (a
rejected key, an exhausted account or budget, a wrong address).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx
import tenacity

from r1_searcher.errors import PipelineError
from r1_searcher.net.retries import CircuitBreaker, RateLimiter, TryAgain, may_pass, retry_after, retrying
from r1_searcher.net.words import in_one_line, redirect_target
from r1_searcher.params import Online
from r1_searcher.retrieval.online.engines import Hit, NoAnswer, SearchEngine, WrongForm
from r1_searcher.texts import parse_json
from r1_searcher.types.protocols import Passage, RetrieverError

ONLINE_SECTION = "params.yaml, retriever.online"
_REFUSED = (401, 403)
_BAD_KEY = "SUBSCRIPTION_TOKEN"  # …_INVALID, in a 422: how Brave rejects a key
_USED_UP = (402, 432, 433)  # 432 and 433 are Tavily's: the plan's limit, the pay-as-you-go limit
_NOT_THERE = (404, 405, 410)
MAX_PAGE_BYTES = 8 << 20  # bytes of a response
_SHOWN = 160  # characters of an engine's own message in our messages


class SearchStopped(PipelineError):
    """No further search can succeed. ``found``: results of the call so far, one entry per query."""

    found: Sequence[list[Passage] | Exception] = ()


class Client:
    """One engine's API under the limits of ``settings``; threads may share it.

    ``take``: books one call; false if the budget is used up.
    """

    def __init__(
        self,
        engine: SearchEngine,
        settings: Online,
        key: str,
        http: httpx.Client,
        *,
        take: Callable[[], bool],
    ) -> None:
        self._engine, self._settings, self._key, self._http, self._take = engine, settings, key, http, take
        self._url = settings.url or engine.url
        self._pace = RateLimiter(settings.calls_a_second)
        self._stopped: SearchStopped | None = None
        self._breaker = CircuitBreaker(2 * settings.concurrency, settings.max_wait)
        stop = tenacity.stop_after_attempt(settings.attempts)
        self._retrying = retrying(stop, backoff=settings.backoff, longest=settings.max_wait)

    def hits(self, query: str, count: int) -> list[Hit]:
        """Return the engine's results, best first, at most ``count``; empty if it reports no match.

        Raises ``RetrieverError`` or ``SearchStopped``.
        """
        if self._stopped is not None:
            raise self._stopped
        if self._breaker.is_open:
            raise RetrieverError(f"{self._engine.name}: not asked, because it has stopped answering")
        try:
            found = self._retrying(self._call_once, self._engine.shortened(query), count)
        except SearchStopped as error:
            self._stopped = error  # so that the other threads need not find out for themselves
            raise
        except TryAgain as error:
            self._breaker.note(answered=False)
            raise RetrieverError(f"{self._engine.name}: {error}, after {self._settings.attempts} attempts") from None
        self._breaker.note(answered=True)
        return found[:count]

    def _call_once(self, query: str, count: int) -> list[Hit]:
        if not self._take():
            raise SearchStopped(
                f"this run's budget of {budget(self._settings)} calls is used up",
                where=ONLINE_SECTION,
                fix="raise max_calls and max_cost; results so far are recorded, and the same command resumes",
            )
        self._pace.wait()
        ask = self._engine.ask(self._key, query, min(count, self._engine.max_hits), self._settings.language)
        try:
            response = self._http.request(
                ask.method, self._url, headers=ask.headers, params=ask.query or None, json=ask.body
            )
        except httpx.TimeoutException:
            raise TryAgain(f"no answer within {self._settings.timeout:g} s") from None
        except httpx.TransportError as error:
            raise TryAgain(self._one_line(str(error) or type(error).__name__)) from None
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            answer = parse_json(response.content)
            if not isinstance(answer, dict):
                raise WrongForm("no JSON object")
            return self._engine.read(answer)
        except ValueError:
            raise TryAgain("the answer is not JSON") from None
        except WrongForm as error:
            said = self._one_line(response.text)
            raise TryAgain(f"the answer is of another form: {error}: {said}") from None
        except NoAnswer as error:
            raise TryAgain(self._one_line(str(error))) from None

    def _refusal(self, response: httpx.Response) -> Exception:
        status, said = response.status_code, self._one_line(response.text)
        name = f"{self._engine.name} at {self._url}"
        if may_pass(status):
            after = retry_after(response.headers.get("Retry-After"))
            if after is not None:
                if after > self._settings.max_wait:
                    return RetrieverError(f"{self._engine.name}: HTTP {status}, and to wait {after:.0f} s: {said}")
                self._pace.hold(after)
            return TryAgain(f"HTTP {status}: {said}", after)
        if status in _USED_UP or (status == 400 and "credit" in said.lower()):
            return SearchStopped(
                f"{name} says that the account is used up (HTTP {status}: {said})", where=ONLINE_SECTION
            )
        if status in _REFUSED or (status == 422 and _BAD_KEY in response.text):
            variable = key_variable(self._engine, self._settings)
            fix = f"check the key in ${variable}" if variable else "allow the format json in its settings.yml"
            return SearchStopped(f"{name} refuses (HTTP {status}: {said})", where=ONLINE_SECTION, fix=fix)
        target = redirect_target(response, key=self._key)
        if target or status in _NOT_THERE:
            return SearchStopped(
                f"{name} is not a valid address (HTTP {status}: {f'it {target}' if target else said})",
                where=ONLINE_SECTION,
                fix="check its url",
            )
        return RetrieverError(f"{self._engine.name}: HTTP {status}: {said}")

    def _one_line(self, text: str) -> str:
        return in_one_line(text, key=self._key, longest=_SHOWN)


def budget(settings: Online) -> int:
    """Return the number of calls that a run may make, by count and by price."""
    if settings.price_a_call == 0:
        return settings.max_calls
    return min(settings.max_calls, int(settings.max_cost / settings.price_a_call + 1e-9))


def key_variable(engine: SearchEngine, settings: Online) -> str:
    """Return the environment variable of the key; empty if no key is needed."""
    return settings.key_variable or engine.key_variable
