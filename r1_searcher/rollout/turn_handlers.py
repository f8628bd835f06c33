"""Protocols for running a batch turn by turn: a mode (``TurnHandler``) and the tools that it calls (``Finder``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from r1_searcher.tools.protocol import SEARCH, Call, ToolResult
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Passage, Turn


@dataclass(frozen=True)
class Answered:
    """A call's ``turns`` record and the block to insert, with its passages; a failed call has no block."""

    record: dict[str, Any]
    block: str | None
    shown: tuple[Passage, ...] = ()

    @property
    def failure(self) -> str:
        """The finish reason of a trajectory whose call failed."""
        return grammar.FINISH_RETRIEVER_ERROR if self.record["tool"] == SEARCH else grammar.FINISH_TOOL_ERROR


class Finder(Protocol):
    """Makes calls, and turns their results into records and blocks."""

    def find(self, calls: Sequence[Call]) -> list[ToolResult]:
        """Return one result per call. May be called from another thread, one call at a time."""
        ...

    def record(self, call: Call, found: ToolResult) -> Answered:
        """Return the ``turns`` record and the block for a call's result."""
        ...


class TurnHandler(Protocol):
    """What a mode does with turns and results. Both methods extend or release the trajectory in the engine."""

    def take(self, turn: Turn) -> Call | None:
        """Record a turn. Return the call that the trajectory waits for; None if it was extended or released."""
        ...

    def insert(self, trajectory: int, answered: Answered) -> None:
        """Insert a result, or end a trajectory whose call failed."""
        ...
