"""What running a batch turn by turn asks of a mode (``Booked``) and of what searches for it (``Finder``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from r1_searcher.types.protocols import Passage, RetrieverError, Turn

Found = list[Passage] | RetrieverError


class Finder(Protocol):
    """Queries in, what was found out; and the record and the document block of what was found."""

    def find(self, queries: Sequence[str]) -> list[Found]:
        """An entry a query. May be called from another thread, one call at a time."""
        ...

    def record(self, query: str, found: Found) -> tuple[dict[str, Any], str | None]:
        """The ``turns`` record and the document block; None where the search failed."""
        ...


class Booked(Protocol):
    """What a mode does with turns and with what was found. Both answer the engine: they extend or release."""

    def take(self, turn: Turn) -> str | None:
        """Book a turn. The query to run, its trajectory waiting for it; None where the engine has been answered."""
        ...

    def insert(self, trajectory: int, record: dict[str, Any], block: str | None) -> None:
        """Insert what was found, or end a trajectory whose search failed."""
        ...
