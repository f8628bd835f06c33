"""A retriever for many threads: one call of it at a time, with the queries of all that wait."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r1_searcher.types.protocols import Passage, Retriever, RetrieverError, search_each, whole, windows_of


@dataclass
class _Asked:
    queries: Sequence[str]
    k: int
    found: list[list[Passage] | RetrieverError] | Exception | None = None


class SharedRetriever:
    """The same retriever. Whoever's turn it is searches for everybody who waits with the same k."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self.fingerprint = retriever.fingerprint
        self._windows = windows_of(retriever)
        self.opens = self._windows is not None
        self._turn, self._list = threading.Lock(), threading.Lock()
        self._waiting: list[_Asked] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._retriever, name)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """As the retriever's."""
        asked = _Asked(queries, k)
        with self._list:
            self._waiting.append(asked)
        with self._turn:
            if asked.found is None:
                self._search_for_all(k)
        if isinstance(asked.found, Exception):
            raise asked.found
        return whole(asked.found or [])

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """As the retriever's."""
        assert self._windows is not None
        with self._turn:
            return self._windows.around(passage, before, after)

    def _search_for_all(self, k: int) -> None:
        with self._list:
            together = [one for one in self._waiting if one.k == k]
            self._waiting = [one for one in self._waiting if one.k != k]
        try:
            found = search_each(self._retriever, [query for one in together for query in one.queries], k)
        except Exception as error:  # each of their threads raises it
            for one in together:
                one.found = error
            return
        for one in together:
            one.found, found = found[: len(one.queries)], found[len(one.queries) :]
