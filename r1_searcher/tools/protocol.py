"""The protocol of a tool: a pair of tags in the policy's text, the request between them, and a block of passages after.

The policy writes ``begin``, a request and ``end``, which ends its turn. The tool answers with passages, and the block
of their texts is inserted before the policy continues. Passages are data: the rollout neutralises and cuts them, so
that no tool has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from r1_searcher.params import Rollout
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Passage, Retriever, ToolError

SEARCH = "search"  # the tool that every policy has, and the only one of the baselines

ToolResult = list[Passage] | ToolError


@dataclass(frozen=True)
class Budget:
    """How much of a tool one trajectory may use.

    ``seconds``: time limit per call of ``answer``; with one, any exception of the tool is an error of its calls. None:
    the tool has its own time limits, and only its ``ToolError`` is an error of a call.
    """

    calls: int  # per trajectory; one more ends it
    passages: int  # per call; more are not shown
    passage_tokens: int  # longer passages are cut
    block_tokens: int = 0  # all passages of a call; 0: no limit
    titles: bool = False  # whether each passage is shown with its title
    seconds: float | None = 30.0


@dataclass(frozen=True)
class Call:
    """A call that was cut out of a turn."""

    tool: str
    request: str
    shown: tuple[Passage, ...] = ()  # passages of the trajectory's last block: (1), (2), …


@dataclass(frozen=True)
class Context:
    """What a tool is made with."""

    retriever: Retriever
    rollout: Rollout


class Tool(Protocol):
    """A tool; a class that inherits from this one needs its tags, its budget and ``answer``.

    ``@tool("name", parameters=Model)`` registers the class, or a function, that makes one from a ``Context`` and its
    own parameters (None if it has no model for them).
    """

    begin: str
    end: str
    budget: Budget

    def request(self, turn: str) -> str:
        """Return the request of a turn that ended in ``end``; an empty one ends the trajectory."""
        return grammar.between(turn, self.begin, self.end)

    def answer(self, calls: Sequence[Call]) -> Sequence[ToolResult]:
        """Return one entry per call: its passages, perhaps none, or why the call failed.

        A ``ToolError`` is an outage, after which the trajectory is lost. A request without a result has no passages.
        """
        ...

    def block(self, texts: Sequence[str]) -> str:
        """Return the text to insert; ``texts`` are the passages', neutralised and cut."""
        return grammar.render_documents(texts)
