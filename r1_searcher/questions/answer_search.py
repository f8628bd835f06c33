"""Whether a text contains a gold answer, in any script: for figures about searches, not for rewards.

Words are compared after the metrics' normalisation, with accents and vowel signs folded as BM25 folds them. An answer
in a script without spaces, or in Korean, whose words carry particles, may begin and end inside a word.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from r1_searcher import scripts
from r1_searcher.retrieval.folding import fold
from r1_searcher.rewards.metrics import normalise

CLOSED_ANSWERS = ("yes", "no", "noanswer")  # as words they occur in every other passage and answer nothing
_NOT_LETTERS = "PZC"  # categories of Unicode: punctuation, separators, control characters


@dataclass
class SearchedText:
    """A text in which gold answers are sought."""

    text: str
    _words: str = field(init=False)
    _letters: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._words = f" {normalise(fold(self.text))} "

    def holds(self, golds: Iterable[Gold]) -> bool:
        """Return whether one of the gold answers occurs."""
        return any(gold.letters in self._all_letters() if gold.letters else gold.words in self._words for gold in golds)

    def _all_letters(self) -> str:
        if self._letters is None:
            self._letters = _letters(self.text)
        return self._letters


@dataclass(frozen=True)
class Gold:
    """A gold answer to seek: ``words`` between spaces; ``letters`` if it needs no spaces around it, else empty."""

    words: str
    letters: str


def golds_of(answers: Sequence[str]) -> list[Gold]:
    """Return the gold answers that can be sought: not yes and no, and none without a word."""
    found = []
    for answer in answers:
        words = normalise(fold(answer))
        if words and words not in CLOSED_ANSWERS:
            found.append(Gold(f" {words} ", _letters(answer) if scripts.without_spaces(answer) else ""))
    return found


def _letters(text: str) -> str:
    return "".join(one for one in fold(text) if unicodedata.category(one)[0] not in _NOT_LETTERS)
