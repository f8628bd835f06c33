"""The tool ``open``: show the passages around a passage of the last block, as a window of its page.

The policy writes the passage's number in the block, because its id is not shown and the paper's block stays unchanged.
The window is a block with numbers of its own: opening its last passage reads on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from r1_searcher.errors import PipelineError
from r1_searcher.extend import tool
from r1_searcher.params.base import Count
from r1_searcher.tools.protocol import Budget, Call, Context, Tool, ToolResult
from r1_searcher.types.protocols import ToolError, windows_of

_NUMBER = re.compile(r"\(?([1-9]\d{0,3})\)?")


class OpenParameters(BaseModel):
    """Parameters in ``rollout.open``."""

    calls: Count = 2  # per trajectory; one more ends it
    before: Annotated[int, Field(ge=0)] = 1  # passages before the opened one
    after: Annotated[int, Field(ge=0)] = 1  # and after it
    same_page: bool = True  # only those with its title
    max_passage_tokens: Count = 256  # longer passages are cut
    max_documents_tokens: Annotated[int, Field(ge=0)] = 0  # all passages of a window; 0: no limit

    @model_validator(mode="after")
    def _room_for_every_passage(self) -> OpenParameters:
        if 0 < self.max_documents_tokens < self.before + 1 + self.after:
            raise ValueError(f"max_documents_tokens = {self.max_documents_tokens} leaves no token for each passage")
        return self


@tool("open", parameters=OpenParameters)
class OpenTool(Tool):
    """Reads a window of the passages that the retriever searches. Raises ``PipelineError`` if the retriever lacks their
    order."""

    begin, end = "<|begin_of_open|>", "<|end_of_open|>"

    def __init__(self, context: Context, parameters: OpenParameters) -> None:
        windows = windows_of(context.retriever)
        if windows is None:
            raise PipelineError(
                "the tool 'open' needs the passages in the order of the corpus or page, which this retriever lacks",
                where="rollout.tools",
                fix="leave it out, or retriever.kind bm25, dense, hybrid, or online with pages: true",
            )
        self._retriever, self._parameters = windows, parameters
        self.budget = Budget(
            calls=parameters.calls,
            passages=parameters.before + 1 + parameters.after,
            passage_tokens=parameters.max_passage_tokens,
            block_tokens=parameters.max_documents_tokens,
            titles=context.rollout.passages == "title_and_text",
            seconds=None,
        )

    def answer(self, calls: Sequence[Call]) -> list[ToolResult]:
        """Return one window per call; empty if the request is not a number of the last block."""
        found: list[ToolResult] = []
        for call in calls:
            match = _NUMBER.fullmatch(call.request)
            number = int(match[1]) if match else 0
            if not 0 < number <= len(call.shown):
                found.append([])
                continue
            asked, settings = call.shown[number - 1], self._parameters
            try:
                window = self._retriever.around(asked, settings.before, settings.after)
            except ToolError as error:
                found.append(error)
                continue
            found.append([one for one in window if one.title == asked.title or not settings.same_page])
        return found
