"""What of a transcript becomes ``content``, and what ``reasoning_content``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from r1_searcher.asking.citations import Search
from r1_searcher.asking.spans import Kind

# What a request includes → the kinds of span.
_KINDS: dict[str, tuple[Kind, ...]] = {
    "thoughts": ("thought",),
    "searches": ("query",),
    "documents": ("documents",),
}
_MARKS: dict[Kind, str] = {"thought": "", "query": "search: ", "documents": "found: ", "answer": ""}


@dataclass
class ContentSplitter:
    """Takes the pieces of a transcript and gives (content, reasoning) as they become certain.

    The answer is content, and so is what ``include`` names; thoughts and searches are reasoning; documents are
    reasoning by their titles only. Each run of a kind begins on a line of its own. Content ends before the first of
    ``stops``: what may become one is held back.
    """

    include: Sequence[str] = ()
    stops: Sequence[str] = ()
    stopped: bool = False
    content: str = ""
    reasoning: str = ""
    _kind: Kind | None = field(default=None, init=False)
    _begun: bool = field(default=False, init=False)  # the present run has text
    _space: str = field(default="", init=False)  # white space that counts if text follows
    _held: str = field(default="", init=False)  # the beginning of a stop string

    def feed(self, kind: Kind, text: str) -> tuple[str, str]:
        """Return what a piece adds to (content, reasoning)."""
        if kind != self._kind:
            self._kind, self._begun, self._space = kind, False, ""
        shown = kind == "answer" or any(kind in _KINDS[one] for one in self.include)
        if kind == "documents" and not shown:
            return "", ""  # told by ``searched``
        text = self._space + text
        self._space = text[len(text.rstrip()) :]
        text = text.rstrip()
        if not self._begun:
            text = text.lstrip()
            if not text:
                self._space = ""
                return "", ""
            before = self.content + self._held if shown else self.reasoning
            mark = _MARKS[kind] if not shown or self.include else ""
            text = ("\n" if before else "") + mark + text
            self._begun = True
        return self._put(text, shown)

    def searched(self, search: Search) -> tuple[str, str]:
        """Return the line of a search's titles, unless documents are content."""
        if "documents" in self.include:
            return "", ""
        titles = " · ".join(f"({number}) {one.title}" for number, one in enumerate(search.passages, 1))
        text = f"found: {titles or 'nothing'}"
        self._kind = "documents"
        return self._put(("\n" if self.reasoning else "") + text, shown=False)

    def end(self) -> tuple[str, str]:
        """Return what was held back."""
        held, self._held = self._held, ""
        self.content += held
        return held, ""

    def _put(self, text: str, shown: bool) -> tuple[str, str]:
        if not shown:
            self.reasoning += text
            return "", text
        if self.stopped:
            return "", ""
        text, self._held = self._held + text, ""
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if places:
            text, self.stopped = text[: min(places)], True
        else:
            keep = max((_overlap(text, stop) for stop in self.stops), default=0)
            text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self.content += text
        return text, ""


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of ``text`` may be the beginning of ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
