"""An asked question on a terminal: thoughts, queries, titles of documents, the answer, and its citations."""

from __future__ import annotations

from dataclasses import dataclass, field

from r1_searcher.asking.asker import Asked
from r1_searcher.asking.citations import can_be_cited
from r1_searcher.asking.spans import Kind
from r1_searcher.shown import show, show_piece
from r1_searcher.transcripts import grammar

_STYLES: dict[Kind, str] = {"thought": "2", "query": "36", "documents": "2;34", "answer": "1;32"}
_MARKS: dict[Kind, str] = {"thought": "", "query": "search: ", "documents": "found:  ", "answer": "answer: "}
# Why there is no answer, by how the trajectory ended.
_ENDINGS: dict[str, str] = {
    grammar.FINISH_ANSWER: "the policy closed an answer that it had not begun",
    grammar.FINISH_END_OF_TEXT: "the policy ended its text without one",
    grammar.FINISH_EMPTY_QUERY: "the policy searched for nothing",
    grammar.FINISH_SEARCH_LIMIT: "the policy wanted more searches than --max-searches (rollout.max_searches)",
    grammar.FINISH_TURN_LIMIT: "the policy wrote rollout.max_turn_tokens without a query or an answer",
    grammar.FINISH_LENGTH_LIMIT: "prompt, passages and text reached rollout.max_total_tokens",
}
_TITLE = 40  # characters of a passage's title in the line of documents


@dataclass
class TerminalPrinter:
    """Prints the pieces of a transcript as they come. ``whole``: documents too, which else are one line of titles."""

    whole: bool = False
    _kind: Kind | None = field(default=None, init=False)
    _begun: bool = field(default=False, init=False)  # something of the present line is printed
    _space: str = field(default="", init=False)  # white space that is printed if text follows

    def __call__(self, kind: Kind, text: str) -> None:
        """Print a piece."""
        if kind != self._kind:
            self._end_line()
            self._kind = kind
        if kind == "documents" and not self.whole:
            return  # told by ``searched``
        if not self._begun:
            text = text.lstrip()
            if not text:
                return
            show_piece(_MARKS[kind], style="2")
            self._begun = True
        text = self._space + text
        self._space = text[len(text.rstrip()) :]
        text = text.rstrip()
        show_piece(text if kind in ("documents", "thought") else text.replace("\n", " "), style=_STYLES[kind])

    def searched(self, titles: list[str]) -> None:
        """Print what a search found, in one line."""
        if self.whole:
            return
        self._end_line()
        listed = " · ".join(f"({number}) {_short(title)}" for number, title in enumerate(titles, 1))
        show_piece(f"{_MARKS['documents']}{listed or 'nothing'}\n", style=_STYLES["documents"])
        self._kind = "documents"

    def end(self, asked: Asked) -> None:
        """Print what is to be said when the transcript has ended."""
        self._end_line()
        if asked.answer is None:
            show(f"no answer: {_why(asked)}")
        elif not asked.answer.strip():
            show("the answer is empty")
        cited = ", ".join(
            f"[{one.search}.{one.rank}] {one.passage.title or one.passage.passage_id}" for one in asked.citations
        )
        if cited:
            show(f"found in: {cited}")
        elif asked.searches and can_be_cited(asked.answer):
            show("found word for word in none of the passages")
        tokens = asked.rollouts["policy_logprobs"].combine_chunks().flatten()
        show_piece(
            f"{_counted(len(asked.searches), 'search', 'searches')}, {_counted(len(tokens), 'token', 'tokens')}, "
            f"first after {asked.first_token_seconds:.1f} s, {asked.seconds:.1f} s in all\n",
            style="2",
        )

    def _end_line(self) -> None:
        if self._begun:
            show_piece("\n")
        self._begun, self._space = False, ""


def _short(title: str) -> str:
    return title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _why(asked: Asked) -> str:
    failed = next((search.error for search in asked.searches if search.error), None)
    if asked.finish_reason in grammar.LOST_FINISHES and failed:
        return f"a search failed: {failed}"
    return _ENDINGS.get(asked.finish_reason, f"the trajectory ended with {asked.finish_reason}")
