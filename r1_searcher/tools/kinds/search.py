"""The tool ``search``, the paper's: return the retriever's best passages for a query."""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher.extend import tool
from r1_searcher.tools.protocol import Budget, Call, Context, Tool, ToolResult
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import search_each


@tool("search")
class SearchTool(Tool):
    """``rollout``'s parameters are its budget; the retriever has its own time limits."""

    begin, end = grammar.QUERY, grammar.END_QUERY

    def __init__(self, context: Context, parameters: None) -> None:
        rollout = context.rollout
        self._retriever = context.retriever
        self.budget = Budget(
            calls=rollout.max_searches,
            passages=rollout.k,
            passage_tokens=rollout.max_passage_tokens,
            block_tokens=rollout.max_documents_tokens,
            titles=rollout.passages == "title_and_text",
            seconds=None,
        )

    def request(self, turn: str) -> str:
        """Return the query, by the release's rule."""
        return grammar.extract_query(turn)

    def answer(self, calls: Sequence[Call]) -> list[ToolResult]:
        """Search all queries in one call of the retriever."""
        return [*search_each(self._retriever, [call.request for call in calls], self.budget.passages)]
