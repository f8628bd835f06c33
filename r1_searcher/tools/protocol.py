"""What a tool is: a pair of tags in the policy's text, the request between them, and passages in a block behind them.

The policy writes ``begin``, a request and ``end``, which ends its turn. The tool answers with passages, and the block
of their texts is inserted before the policy writes on. Passages are data: the rollout neutralises and cuts them, so
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
    """How much of a tool one trajectory may have.

    ``seconds``: time limit per call of ``answer``. With one, whatever the tool raises is an error of its calls. None is
    for a tool that keeps its own time limits; from it only a ``ToolError`` is an error of a call.
    """

    calls: int  # per trajectory; one more ends it
    passages: int  # per call; those beyond are not shown
    passage_tokens: int  # a longer passage is cut
    block_tokens: int = 0  # all passages of a call together; 0: no limit of their own
    titles: bool = False  # whether each passage is shown with its title
    seconds: float | None = 30.0


@dataclass(frozen=True)
class Call:
    """A call that was cut out of a turn."""

    tool: str
    request: str
    shown: tuple[Passage, ...] = ()  # passages of the trajectory's last block: (1), (2), … in it


@dataclass(frozen=True)
class Context:
    """What a tool is made for."""

    retriever: Retriever
    rollout: Rollout


class Tool(Protocol):
    """A tool; a class that inherits from this one needs its tags, its budget and ``answer``.

    ``@tool("name", parameters=Model)`` registers the class, or a function, that makes one of a ``Context`` and its own
    parameters (None if it has no model of them).
    """

    begin: str
    end: str
    budget: Budget

    def request(self, turn: str) -> str:
        """The request of a turn that ended in ``end``; empty if there is none, which ends the trajectory."""
        return grammar.between(turn, self.begin, self.end)

    def answer(self, calls: Sequence[Call]) -> Sequence[ToolResult]:
        """An entry per call: its passages, none if there are none to show, or why the call failed.

        A ``ToolError`` is an outage, after which the trajectory is lost. What a policy asks in vain has no passages.
        """
        ...

    def block(self, texts: Sequence[str]) -> str:
        """What is inserted; ``texts`` are the passages', neutralised and cut."""
        return grammar.render_documents(texts)
