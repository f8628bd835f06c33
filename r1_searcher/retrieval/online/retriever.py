"""The ``Retriever`` protocol over a web search engine.

A query's passages come from the engine's first k hits, in the engine's order: of each page the passage that answers the
query best, or the engine's snippet if the page is unreadable. The engine's order is kept because it knows the whole
web; one passage per page, because k of the same page repeat each other.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint
from r1_searcher.keys import read_key
from r1_searcher.net import replies
from r1_searcher.params import Online
from r1_searcher.retrieval import addresses
from r1_searcher.retrieval.online.client import (
    MAX_PAGE_BYTES,
    ONLINE_SECTION,
    Client,
    SearchStopped,
    budget,
    key_variable,
)
from r1_searcher.retrieval.online.engines import SEARCH_ENGINES, Hit
from r1_searcher.retrieval.online.pages import Pages, best_passages
from r1_searcher.types.protocols import Passage, RetrieverError, whole

# Version of this code in the fingerprint: raise it if the same web content would become other passages. The code's hash
# is not used, so that records can be replayed after unrelated changes.
_FORM = 1


def online_fingerprint(settings: Online) -> str:
    """Return the fingerprint of a search, apart from the web: engine and address, language, and how pages become
    passages."""
    chosen = settings.model_dump(include={"engine", "language", "pages", "passage_words", "max_page_bytes"})
    return fingerprint({"kind": "online", "url": address(settings), "form": _FORM, **chosen})


def address(settings: Online) -> str:
    """Return the API's address. Raises ``PipelineError`` if there is none."""
    url = settings.url or SEARCH_ENGINES[settings.engine].url
    if not url:
        raise PipelineError(
            f"{settings.engine} is self-hosted, so its address must be given",
            where=f"{ONLINE_SECTION}.url",
            fix="e.g. http://localhost:8080/search",
        )
    addresses.url_without_password(url, where=f"{ONLINE_SECTION}.url", fix="http:// or https://")
    return url


def describe(settings: Online) -> str:
    """Return a one-line description for people and protocol cards."""
    text = f"passages of {settings.passage_words} words from its hits' pages" if settings.pages else "snippets"
    return f"{settings.engine} at {address(settings)}, language {settings.language}, {text}"


class OnlineRetriever:
    """Searches the web; ``close`` ends its connections.

    ``take(limit)`` books one call and returns whether fewer than ``limit`` had been booked. Raises ``PipelineError`` if
    the address or the key is missing; sends nothing before the first search.
    """

    fingerprint: str

    def __init__(self, settings: Online, take: Callable[[int], bool]) -> None:
        engine = SEARCH_ENGINES[settings.engine]
        if settings.pages and importlib.util.find_spec("trafilatura") is None:
            raise PipelineError(
                "reading pages needs the package trafilatura",
                where=f"{ONLINE_SECTION}.pages",
                fix="pip install '.[online]', or pages: false",
            )
        self.fingerprint = online_fingerprint(settings)
        self._settings = settings
        limit = budget(settings)
        asking = httpx.Client(timeout=settings.timeout, headers={"User-Agent": settings.user_agent})
        self._http = replies.limit(asking, seconds=settings.timeout, most=MAX_PAGE_BYTES)
        key = read_key(
            key_variable(engine, settings),
            address(settings),
            where=f"{ONLINE_SECTION}.key_variable",
            fix=f"export your {engine.name} key under that name",
        )
        self._client = Client(engine, settings, key, self._http, take=lambda: take(limit))
        self._pages = Pages(settings) if settings.pages else None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def opens(self) -> bool:
        """See ``Windows``: only if pages are read."""
        return self._pages is not None

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """Return a window of the passage's page, which is fetched again if the copy is old.

        Returns the passage alone if its page cannot be read or has become shorter, and if it is an engine's snippet.
        """
        assert self._pages is not None, "pages are not read"
        url, _, number = passage.passage_id.rpartition("#")
        place = int(number) if re.fullmatch(r"\d{1,4}", number, re.ASCII) else None
        texts = self._pages.passages(url) if place is not None else ()
        if place is None or place >= len(texts):
            return [replace(passage, score=0.0)]
        first = max(0, place - before)
        window = enumerate(texts[first : place + after + 1], first)
        return [Passage(f"{url}#{one}", passage.title, text, 0.0) for one, text in window]

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the best ``k`` passages per query; equal queries are sent once. ``score`` is 1 / rank.

        Raises ``RetrieverError`` if a query failed after its retries, ``SearchStopped`` if none can succeed.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        asked = list(dict.fromkeys(queries))
        with (
            ThreadPoolExecutor(self._settings.concurrency) as callers,
            ThreadPoolExecutor(self._settings.concurrency) as readers,
        ):
            outcomes = dict(zip(asked, callers.map(lambda query: self._one(query, k, readers), asked), strict=True))
        stops = [outcome for outcome in outcomes.values() if isinstance(outcome, SearchStopped)]
        if stops:
            stops[0].found = [outcomes[query] for query in queries]
            raise stops[0]
        return whole([outcome for query in queries if not isinstance(outcome := outcomes[query], SearchStopped)])

    def _one(self, query: str, k: int, readers: ThreadPoolExecutor) -> list[Passage] | RetrieverError | SearchStopped:
        try:
            hits = self._client.hits(query, k)
        except (RetrieverError, SearchStopped) as error:
            return error
        found = self._passages(query, hits, readers)
        if hits and not found:
            return RetrieverError(
                f"{self._settings.engine}: {len(hits)} hits, and neither a page nor a snippet to read"
            )
        return found

    def _passages(self, query: str, hits: Sequence[Hit], readers: ThreadPoolExecutor) -> list[Passage]:
        """Return one passage per hit, in order, skipping hits without words."""
        if self._pages is None:
            pages: list[tuple[str, ...]] = [()] * len(hits)
        else:
            passages = self._pages.passages
            pages = list(readers.map(lambda hit: passages(hit.url) if hit.url else (), hits))
        # A snippet counts as a page of one passage.
        known = [(hit, page or (hit.snippet,), bool(page)) for hit, page in zip(hits, pages, strict=True)]
        known = [entry for entry in known if any(entry[1])]
        best = best_passages(query, [page for _, page, _ in known]) if known else []
        return [
            Passage(f"{hit.url}#{number}" if read else hit.url or _name(hit), hit.title, page[number], 1.0 / rank)
            for rank, ((hit, page, read), number) in enumerate(zip(known, best, strict=True), 1)
        ]


def _name(hit: Hit) -> str:
    """Return the passage id of a hit without an address."""
    return f"snippet-{fingerprint([hit.title, hit.snippet])[:16]}"
