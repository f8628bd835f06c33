"""Count the tokens of a passage's prefixes from one encoding of the whole passage with offsets.

A tokenizer that splits at spaces first gives the words before a space the same tokens whatever follows. So only a
prefix's last two words are encoded; the tokens before them are counted in the whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r1_searcher.rollout.codec import library_of

_HEAD = "(1) "
_WORDS = "Ada's 1931, (b) – é 中. x ! Yes"  # letters, digits, marks and other scripts around the spaces


def line(text: str) -> str:
    """Return a passage's line of a block for counting tokens; every passage is number 1."""
    return f"{_HEAD}{text}\n"


def parts_at_spaces(tokenizer: Any) -> Any | None:
    """Return the inner tokenizer of the library ``tokenizers`` if it splits text at spaces first; else None."""
    backend = library_of(tokenizer)
    pre_tokenizer = getattr(backend, "pre_tokenizer", None)
    if backend is None or pre_tokenizer is None:
        return None
    text = backend.normalizer.normalize_str(_WORDS) if backend.normalizer is not None else _WORDS
    if text.count(" ") < _WORDS.count(" "):  # a normalizer that turns spaces into letters: nothing is split at them
        return None
    starts = {start for _, (start, _) in pre_tokenizer.pre_tokenize_str(text)}
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    return backend if all(starts & {place, place + 1} for place in spaces) else None


@dataclass(frozen=True)
class PrefixLengths:
    """The encoded line of one text; counts the tokens of its prefixes' lines."""

    backend: Any
    starts: Sequence[int]  # of the line's tokens, in characters
    ends: Sequence[int]

    @classmethod
    def of(cls, backend: Any, encoded: Any, ids: Sequence[int]) -> PrefixLengths | None:
        """Return the counter for a text's line, encoded by ``backend`` (``encoded``) and by the engine (``ids``); None
        if the two differ or the tokens are not in the text's order."""
        starts, ends = zip(*encoded.offsets, strict=True)
        if encoded.ids != list(ids) or sorted(ends) != list(ends):
            return None
        return cls(backend, starts, ends)

    def tokens(self, beginning: str, enough: int) -> int:
        """Count the tokens of a prefix's line. The count may be too low, but never below ``enough``."""
        space = beginning.rfind(" ", 0, max(0, beginning.rfind(" ")))
        place = len(_HEAD) + space
        before = bisect_right(self.ends, place)
        if space < 0 or (before < len(self.starts) and self.starts[before] < place):  # a token spans the space
            return self._count(beginning)
        if before >= enough:
            return before
        head = bisect_right(self.ends, len(_HEAD) - 1)
        return before + self._count(beginning[space + 1 :]) - head

    def _count(self, text: str) -> int:
        return len(self.backend.encode(line(text), add_special_tokens=False).ids)
