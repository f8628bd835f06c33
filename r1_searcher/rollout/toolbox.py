"""The tools of a rollout: opened by name, called within their budgets; their results become blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Extension, place_of
from r1_searcher.rollout.blocks import Blocks
from r1_searcher.rollout.turn_handlers import Answered
from r1_searcher.shown import printable
from r1_searcher.tools.guard import Guarded
from r1_searcher.tools.protocol import SEARCH, Call, Context, Tool, ToolResult
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.documents import fold_space
from r1_searcher.types.protocols import Engine, Retriever, ToolError


class Toolbox:
    """The tools that ``rollout.tools`` (or ``names``) lists; makes one record per call for the Parquet file.

    ``seconds``: time spent in calls so far. ``further``: the tools beside search, with their tags.
    """

    def __init__(
        self, retriever: Retriever, engine: Engine, rollout: params.Rollout, names: Sequence[str] | None = None
    ) -> None:
        """Raises ``PipelineError`` for a tool that cannot be made, and for tags that two tools share."""
        self.engine, self.rollout = engine, rollout
        context = Context(retriever, rollout)
        self.tools = {name: _make_tool(name, context) for name in (rollout.tools if names is None else names)}
        tags = [tag for tool in self.tools.values() for tag in (tool.begin, tool.end)]
        _check_tags(self.tools)
        self._blocks = {
            name: Blocks(
                engine,
                rollout.model_copy(
                    update={
                        "passages": "title_and_text" if tool.budget.titles else "text",
                        "max_passage_tokens": tool.budget.passage_tokens,
                        "max_documents_tokens": tool.budget.block_tokens,
                    }
                ),
                [tag for tag in tags if tag not in grammar.TAGS],
            )
            for name, tool in self.tools.items()
        }
        self._answers: dict[str, Callable[[Sequence[Call]], Sequence[ToolResult]]] = {
            name: tool.answer if tool.budget.seconds is None else Guarded(name, tool).answer
            for name, tool in self.tools.items()
        }
        self._by_end = {tool.end: name for name, tool in self.tools.items()}
        self.stops = (*self._by_end, grammar.END_ANSWER)
        self.further = [grammar.Tags(name, tool.begin, tool.end) for name, tool in self.tools.items() if name != SEARCH]
        self.seconds = 0.0

    def called(self, stop: str) -> str | None:
        """Return the tool called by a turn that ended in ``stop``; None if none."""
        return self._by_end.get(stop)

    def request(self, name: str, turn: str) -> str | ToolError:
        """Return the turn's request to the tool; empty if it has none."""
        tool = self.tools[name]
        if tool.budget.seconds is None:
            return tool.request(turn)
        try:
            return str(tool.request(turn))
        except Exception as error:  # a user's code may raise anything on what a policy writes
            return ToolError(f"{name}: {type(error).__name__}: {error}")

    def find(self, calls: Sequence[Call]) -> list[ToolResult]:
        """Return each call's passages, or why it has none. May be called from another thread, one call at a time."""
        began = time.perf_counter()
        found: dict[int, ToolResult] = {}
        for name, answer in self._answers.items():
            numbers = [number for number, call in enumerate(calls) if call.tool == name]
            if numbers:
                try:
                    entries = answer([calls[number] for number in numbers])
                except ToolError as error:
                    entries = [error] * len(numbers)
                found.update(zip(numbers, entries, strict=True))
        self.seconds += time.perf_counter() - began
        return [found[number] for number in range(len(calls))]

    def record(self, call: Call, found: ToolResult) -> Answered:
        """Return a call's ``turns`` record and its block; a failed call has no block."""
        about = {"tool": call.tool, "query": call.request}
        if isinstance(found, ToolError):
            error = printable(str(found)) or "it did not say why"
            return Answered({**about, "passage_ids": [], "scores": [], "error": error}, None)
        tool = self.tools[call.tool]
        # A server may send more than it was asked for.
        told = [passage for passage in found[: tool.budget.passages] if fold_space(passage.text)]
        if found and not told:
            return self.record(call, ToolError(f"{len(found)} passages without a word"))
        texts = self._blocks[call.tool].texts(told)
        try:
            block = tool.block(texts)
        except Exception as error:
            if tool.budget.seconds is None:
                raise
            return self.record(call, ToolError(f"{call.tool}: {type(error).__name__}: {error}"))
        record = {
            **about,
            "passage_ids": [printable(passage.passage_id) for passage in told],
            "scores": [passage.score for passage in told],
            "error": None,
        }
        return Answered(record, block, tuple(told))


def _make_tool(name: str, context: Context) -> Tool:
    """Make a tool with its own parameters. Raises ``PipelineError``."""
    rollout = context.rollout
    extension: Extension = rollout.found("tools", name)
    parameters = rollout.parameters_of("tools", name)
    try:
        made: Tool = extension.value(context, parameters)
        _check_budget(made)
    except PipelineError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise PipelineError(
            f"the tool {name!r} cannot be made: {type(error).__name__}: {error}",
            where=place_of(error, extension.file),
        ) from error
    return made


def _check_budget(tool: Tool) -> None:
    budget = tool.budget
    if min(budget.calls, budget.passages, budget.passage_tokens) < 1 or budget.block_tokens < 0:
        raise ValueError(f"{budget}: calls, passages and passage_tokens are at least 1")
    if 0 < budget.block_tokens < budget.passages:
        raise ValueError(f"block_tokens = {budget.block_tokens} leaves no token for each of {budget.passages} passages")


def _check_tags(tools: dict[str, Tool]) -> None:
    """Raise ``PipelineError`` if a tag contains another: each must be found where it was written."""
    taken = {tag: "the transcript" for tag in grammar.TAGS if tag not in (grammar.QUERY, grammar.END_QUERY)}
    for name, tool in tools.items():
        for tag in (tool.begin, tool.end):
            if len(tag) < 3 or tag != tag.strip():
                raise PipelineError(f"the tool {name!r} has no tag {tag!r}", fix="three characters or more, no space")
            other = next((one for one in taken if one in tag or tag in one), None)
            if other is not None:
                raise PipelineError(f"the tool {name!r} has the tag {tag!r}, and {taken[other]} has {other!r}")
            taken[tag] = f"the tool {name!r}"
