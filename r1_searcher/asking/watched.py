"""An engine and a retriever that report what passes through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from r1_searcher.asking.citations import Search
from r1_searcher.types.protocols import (
    Engine,
    Passage,
    Retriever,
    RetrieverError,
    Sampling,
    Tokenized,
    Turn,
    windows_of,
)

OnText = Callable[[str], None]


class WatchedEngine:
    """The same engine, for one trajectory at a time; ``on_text`` is told what it writes and what is inserted.

    An engine with a hook ``on_token`` tells token by token, another one turn by turn.
    """

    def __init__(self, engine: Engine, on_text: OnText) -> None:
        self._engine, self._on_text = engine, on_text
        self._written: list[int] = []  # tokens of the turn so far
        self._shown = ""
        self._by_token = hasattr(engine, "on_token")
        if isinstance(engine, Tokenized):
            self.tokenizer = engine.tokenizer  # set: from Python 3.12 on, protocols do not see ``__getattr__``
        if self._by_token:
            engine.on_token = self._token  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        """As the engine's."""
        self._written, self._shown = [], ""
        self._engine.start(sampling, stops)

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        """As the engine's."""
        turns = self._engine.step(interrupted)
        for turn in turns:
            self._tell(self._engine.decode(turn.token_ids), whole=True)
            self._written, self._shown = [], ""
        return turns

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        """As the engine's."""
        self._on_text(self._engine.decode(token_ids))
        self._engine.extend(trajectory, token_ids)

    def close(self) -> None:
        """Let go of the engine."""
        if self._by_token:
            self._engine.on_token = None  # type: ignore[attr-defined]

    def _token(self, trajectory: int, token: int) -> None:
        self._written.append(token)
        self._tell(self._engine.decode(self._written), whole=False)

    def _tell(self, text: str, *, whole: bool) -> None:
        if not whole and text.endswith("\ufffd"):
            return  # a character of which a token is still to come
        if text.startswith(self._shown) and len(text) > len(self._shown):
            self._on_text(text[len(self._shown) :])
            self._shown = text


class WatchedRetriever:
    """The same retriever; ``searches`` keeps what was asked and found."""

    def __init__(self, retriever: Retriever, on_search: Callable[[Search], None] | None = None) -> None:
        self._retriever, self._on_search = retriever, on_search
        self.searches: list[Search] = []
        self.fingerprint = retriever.fingerprint
        self._windows = windows_of(retriever)
        self.opens = self._windows is not None

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """As the retriever's."""
        assert self._windows is not None
        return self._windows.around(passage, before, after)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._retriever, name)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """As the retriever's."""
        try:
            found = self._retriever.search(queries, k)
        except RetrieverError as error:
            self.searches += [Search(query, (), str(error)) for query in queries]
            raise
        for query, one in zip(queries, found, strict=True):
            self.searches.append(Search(query, tuple(one)))
            if self._on_search is not None:
                self._on_search(self.searches[-1])
        return found
