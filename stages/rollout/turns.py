"""Running a batch of trajectories turn by turn, with searches between turns.

What a turn means is the mode's business (``Booked``); when it is searched for, and when the engine steps, is here.
With an engine whose rows advance together every search is answered before the next step, and searches of turns that
end together are one call. Where an engine ``overlaps``, it goes on while others search: ``stages.rollout.overlap``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stages.contract.protocols import Engine, Passage, RetrieverError, Turn

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


def run(engine: Engine, finder: Finder, booked: Booked, told: Callable[[], None] = lambda: None) -> None:
    """Run the trajectories that the engine has to their end; ``told`` is called as turns end."""
    if engine.overlaps:
        from stages.rollout.overlap import run_overlapped

        run_overlapped(engine, finder, booked, told)
        return
    while turns := engine.step():
        queries = {turn.trajectory: query for turn in turns if (query := booked.take(turn)) is not None}
        told()
        if not queries:
            continue
        found = finder.find(list(queries.values()))
        for (trajectory, query), entry in zip(queries.items(), found, strict=True):
            booked.insert(trajectory, *finder.record(query, entry))
