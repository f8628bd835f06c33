"""A transcript that is being written, as runs of text by what they are: for colours, and for streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from r1_searcher.transcripts import grammar

Kind = Literal["thought", "query", "documents", "answer"]

# A tag → what stands behind it. After the thoughts' end comes the answer's begin; what is between is thought.
_BEHIND: dict[str, Kind] = {
    grammar.THINK: "thought",
    grammar.END_THINK: "thought",
    grammar.QUERY: "query",
    grammar.END_QUERY: "thought",
    grammar.DOCUMENTS: "documents",
    grammar.END_DOCUMENTS: "thought",
    grammar.ANSWER: "answer",
    grammar.END_ANSWER: "thought",
}
_LONGEST = max(map(len, _BEHIND))


@dataclass
class SpanSplitter:
    """Takes pieces of a transcript and gives them back without tags, each with its kind.

    The beginning of what may become a tag is held back until it is one, or is none.
    """

    kind: Kind = "thought"
    _held: str = field(default="", init=False)

    def feed(self, text: str) -> Iterator[tuple[Kind, str]]:
        """Yield (kind, text) of what is certain."""
        self._held += text
        while self._held:
            place, tag = min(
                ((found, tag) for tag in _BEHIND if (found := self._held.find(tag)) >= 0), default=(-1, "")
            )
            if tag:
                if place:
                    yield self.kind, self._held[:place]
                self.kind, self._held = _BEHIND[tag], self._held[place + len(tag) :]
                continue
            certain = len(self._held) - self._begun()
            if certain:
                yield self.kind, self._held[:certain]
            self._held = self._held[certain:]
            return

    def end(self) -> Iterator[tuple[Kind, str]]:
        """Yield what was held back."""
        if self._held:
            yield self.kind, self._held
        self._held = ""

    def _begun(self) -> int:
        """How many characters at the end may be the beginning of a tag."""
        for length in range(min(_LONGEST - 1, len(self._held)), 0, -1):
            if any(tag.startswith(self._held[-length:]) for tag in _BEHIND):
                return length
        return 0
