"""What running a batch turn by turn asks of a mode (``TurnHandler``) and of the tools that it calls (``Finder``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from r1_searcher.tools.protocol import SEARCH, Call, ToolResult
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Passage, Turn


@dataclass(frozen=True)
class Answered:
    """A call's ``turns`` record, and the block to insert with the passages in it; no block: the call failed."""

    record: dict[str, Any]
    block: str | None
    shown: tuple[Passage, ...] = ()

    @property
    def failure(self) -> str:
        """How a trajectory ends whose call failed."""
        return grammar.FINISH_RETRIEVER_ERROR if self.record["tool"] == SEARCH else grammar.FINISH_TOOL_ERROR


class Finder(Protocol):
    """Calls in, what was found out; and the record and the block of what was found."""

    def find(self, calls: Sequence[Call]) -> list[ToolResult]:
        """An entry per call. May be called from another thread, one call at a time."""
        ...

    def record(self, call: Call, found: ToolResult) -> Answered:
        """The ``turns`` record and the block of what a call found."""
        ...


class TurnHandler(Protocol):
    """What a mode does with turns and with what was found. Both answer the engine: they extend or release."""

    def take(self, turn: Turn) -> Call | None:
        """Book a turn. The call to make, its trajectory waiting for it; None where the engine has been answered."""
        ...

    def insert(self, trajectory: int, answered: Answered) -> None:
        """Insert what was found, or end a trajectory whose call failed."""
        ...
