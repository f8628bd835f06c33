"""An asked question on a terminal: thoughts, queries, documents in one line, the answer, where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from r1_searcher.asking.asker import Asked
from r1_searcher.asking.spans import Kind
from r1_searcher.shown import show, show_piece
from r1_searcher.transcripts.grammar import FINISH_ANSWER

_STYLES: dict[Kind, str] = {"thought": "2", "query": "36", "documents": "2;34", "answer": "1;32"}
_MARKS: dict[Kind, str] = {"thought": "", "query": "search: ", "documents": "found:  ", "answer": "answer: "}
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
        if asked.answer is None and asked.finish_reason == FINISH_ANSWER:
            show("no answer: the policy closed an answer that it had not begun")
        elif asked.answer is None:
            show(f"no answer: the trajectory ended with {asked.finish_reason}")
        cited = ", ".join(
            f"[{one.search}.{one.rank}] {one.passage.title or one.passage.passage_id}" for one in asked.citations
        )
        if cited:
            show(f"found in: {cited}")
        elif asked.answer is not None and asked.searches:
            show("found word for word in none of the passages")
        tokens = asked.rollouts["policy_logprobs"].combine_chunks().flatten()
        show_piece(
            f"{len(asked.searches)} searches, {len(tokens):,} tokens, first after {asked.first_token_seconds:.1f} s, "
            f"{asked.seconds:.1f} s in all\n",
            style="2",
        )

    def _end_line(self) -> None:
        if self._begun:
            show_piece("\n")
        self._begun, self._space = False, ""


def _short(title: str) -> str:
    return title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
