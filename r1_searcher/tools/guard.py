"""A tool's calls within a time limit: a tool that hangs or raises fails only its own call."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from r1_searcher.errors import PipelineError
from r1_searcher.tools.protocol import Call, Tool, ToolResult
from r1_searcher.types.protocols import Passage, ToolError

MOST_HANGING = 4  # hanging calls at once; while there are so many, others fail without a try


@dataclass
class _Outcome:
    entries: Sequence[ToolResult] | None = None
    error: BaseException | None = None


@dataclass
class Guarded:
    """``answer`` of a tool with ``budget.seconds``: always returns one entry per call."""

    name: str
    tool: Tool
    _hanging: list[threading.Thread] = field(default_factory=list)

    def answer(self, calls: Sequence[Call]) -> list[ToolResult]:
        """Return the tool's answers. If calls fail together, each is retried alone, so that none affects another.

        Raises the tool's own ``PipelineError``, which ends the run.
        """
        found = self._answer_within_limit(calls)
        if isinstance(found, list):
            return found
        if len(calls) == 1:
            return [found]
        return [entry for call in calls for entry in self.answer([call])]

    def _answer_within_limit(self, calls: Sequence[Call]) -> list[ToolResult] | ToolError:
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= MOST_HANGING:
            return ToolError(f"{self.name}: {len(self._hanging)} calls of it hang")
        outcome = _Outcome()
        thread = threading.Thread(target=self._run, args=(calls, outcome), name=f"tool {self.name}", daemon=True)
        thread.start()
        thread.join(self.tool.budget.seconds)
        if thread.is_alive():
            self._hanging.append(thread)
            return ToolError(f"{self.name}: no answer within {self.tool.budget.seconds:g} s")
        if isinstance(outcome.error, PipelineError):
            raise outcome.error
        if isinstance(outcome.error, ToolError):
            return outcome.error
        if outcome.error is not None:
            return ToolError(f"{self.name}: {type(outcome.error).__name__}: {outcome.error}")
        entries = outcome.entries
        if not isinstance(entries, Sequence) or len(entries) != len(calls):
            return ToolError(f"{self.name}: answers with {_size(entries)}, not with an entry for each of {len(calls)}")
        return [
            entry if _is_found(entry) else ToolError(f"{self.name}: an answer is not a list of passages")
            for entry in entries
        ]

    def _run(self, calls: Sequence[Call], outcome: _Outcome) -> None:
        try:
            outcome.entries = self.tool.answer(calls)
        except BaseException as error:  # else an exit in a thread would be lost silently
            outcome.error = error


def _size(entries: object) -> str:
    return str(len(entries)) if isinstance(entries, Sequence) else type(entries).__name__


def _is_found(entry: object) -> bool:
    if isinstance(entry, ToolError):
        return True
    return isinstance(entry, list) and all(
        isinstance(one, Passage)
        and all(isinstance(text, str) for text in (one.passage_id, one.title, one.text))
        and isinstance(one.score, int | float)
        for one in entry
    )
