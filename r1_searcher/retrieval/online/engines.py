"""Four search engines: their requests and responses. Pure functions; ``client`` sends the requests.

Written from the engines' own documentation:

- Serper (Google's results), https://serper.dev: POST, key in ``X-API-KEY``; hits in ``organic``.
- Tavily, https://docs.tavily.com/documentation/api-reference/endpoint/search: POST, bearer key; ``results``.
- Brave, https://api-dashboard.search.brave.com/api-reference/web/search/get: GET, key in ``X-Subscription-Token``, at
  most 400 characters and 50 words per query and 20 hits; ``web.results``.
- SearXNG, self-hosted, https://docs.searxng.org/dev/search_api.html: GET with ``format=json``, which its settings.yml
  must allow; ``results``, and ``unresponsive_engines`` if it got no answers itself.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Hit:
    """One result of an engine. ``url`` is empty for one without an address (an infobox); ``snippet`` may be empty, but
    not both."""

    url: str
    title: str
    snippet: str


@dataclass(frozen=True)
class Ask:
    """The parts of an HTTP request, independent of the client that sends it."""

    method: str
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None


class WrongForm(Exception):
    """A response that contradicts the engine's documentation."""


class NoAnswer(Exception):
    """The engine reports that it could not search: an outage, not an empty result."""


@dataclass(frozen=True)
class SearchEngine:
    """One search engine. ``key_variable``: the environment variable of its key; empty if it needs none."""

    name: str
    url: str  # empty: the user's own
    key_variable: str
    ask: Callable[[str, str, int, str], Ask]  # key, query, number of hits, language
    read: Callable[[Mapping[str, Any]], list[Hit]]
    max_hits: int
    max_characters: int = 400
    max_words: int = 50

    def shortened(self, query: str) -> str:
        """Return the query within the engine's limits, cut between words if possible."""
        words = " ".join(query.split()[: self.max_words])
        if len(words) <= self.max_characters:
            return words
        cut = words[: self.max_characters + 1].rpartition(" ")[0]
        return cut or words[: self.max_characters]


def _serper_ask(key: str, query: str, hits: int, language: str) -> Ask:
    return Ask("POST", {"X-API-KEY": key}, body={"q": query, "num": hits, "hl": language})


def _serper_read(answer: Mapping[str, Any]) -> list[Hit]:
    if "organic" not in answer and "searchParameters" in answer:
        return []  # its answer to a query without matches
    return _hits(answer.get("organic"), "organic", "link", "snippet")


def _tavily_ask(key: str, query: str, hits: int, language: str) -> Ask:
    return Ask("POST", {"Authorization": f"Bearer {key}"}, body={"query": query, "max_results": hits})


def _tavily_read(answer: Mapping[str, Any]) -> list[Hit]:
    return _hits(answer.get("results"), "results", "url", "content")


def _brave_ask(key: str, query: str, hits: int, language: str) -> Ask:
    headers = {"X-Subscription-Token": key, "Accept": "application/json"}
    return Ask("GET", headers, query={"q": query, "count": str(hits), "search_lang": language})


def _brave_read(answer: Mapping[str, Any]) -> list[Hit]:
    if "web" not in answer and answer.get("type") == "search":
        return []
    web = answer.get("web")
    return _hits(web.get("results") if isinstance(web, Mapping) else None, "web.results", "url", "description")


def _searxng_ask(key: str, query: str, hits: int, language: str) -> Ask:
    return Ask("GET", query={"q": query, "format": "json", "language": language})


def _searxng_read(answer: Mapping[str, Any]) -> list[Hit]:
    hits = _hits(answer.get("results"), "results", "url", "content")
    silent = answer.get("unresponsive_engines")
    if not hits and silent:
        raise NoAnswer(f"none of its engines answered: {silent}")
    return hits


def _hits(items: Any, where: str, url: str, snippet: str) -> list[Hit]:
    """Return the results in ``items``, without those that have neither an address nor a snippet."""
    if not isinstance(items, list):
        raise WrongForm(f"no list in {where!r}")
    if not all(isinstance(item, Mapping) for item in items):
        raise WrongForm(f"an item of {where!r} that is no object")
    hits = [Hit(_text(item.get(url)), _text(item.get("title")), _text(item.get(snippet))) for item in items]
    found = [hit for hit in hits if hit.url or hit.snippet]
    if items and not found:
        raise WrongForm(f"no item of {where!r} has {url!r} or {snippet!r}")
    return found


_MARKUP = re.compile(r"</?(?:strong|b|em|i|br)\s*/?>", re.IGNORECASE)


def _text(value: Any) -> str:
    """Return plain text of a title or snippet: Brave marks the query's words in HTML, and lone surrogates fit in no
    file."""
    if not isinstance(value, str):
        return ""
    text = html.unescape(_MARKUP.sub("", value)).encode("utf-8", "replace").decode()
    return " ".join(text.split())


SEARCH_ENGINES = {
    engine.name: engine
    for engine in (
        # More than ten hits cost a second credit.
        SearchEngine(
            "serper", "https://google.serper.dev/search", "SERPER_API_KEY", _serper_ask, _serper_read, 10, 2000, 300
        ),
        SearchEngine("tavily", "https://api.tavily.com/search", "TAVILY_API_KEY", _tavily_ask, _tavily_read, 20),
        SearchEngine(
            "brave", "https://api.search.brave.com/res/v1/web/search", "BRAVE_API_KEY", _brave_ask, _brave_read, 20
        ),
        SearchEngine("searxng", "", "", _searxng_ask, _searxng_read, 100),  # it returns all that it finds
    )
}
