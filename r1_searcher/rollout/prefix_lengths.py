"""How many tokens the beginnings of a passage have, from one encoding of the whole passage with offsets.

A tokenizer that parts text at spaces before all else gives the words before a space the same tokens whatever follows.
So of a beginning only its last two words are encoded, and the tokens before them are counted off the whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r1_searcher.rollout.codec import library_of

_HEAD = "(1) "
_WORDS = "Ada's 1931, (b) – é 中. x ! Yes"  # letters, digits, marks, other scripts: spaces between any of them


def line(text: str) -> str:
    """A passage's line of a block, as its tokens are counted: every passage is number 1."""
    return f"{_HEAD}{text}\n"


def parts_at_spaces(tokenizer: Any) -> Any | None:
    """The tokenizer of the library ``tokenizers`` within, where it parts text at spaces before all else; else None."""
    backend = library_of(tokenizer)
    pre_tokenizer = getattr(backend, "pre_tokenizer", None)
    if backend is None or pre_tokenizer is None:
        return None
    text = backend.normalizer.normalize_str(_WORDS) if backend.normalizer is not None else _WORDS
    if text.count(" ") < _WORDS.count(" "):  # a normalizer that makes letters of them: nothing is parted any more
        return None
    starts = {start for _, (start, _) in pre_tokenizer.pre_tokenize_str(text)}
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    return backend if all(starts & {place, place + 1} for place in spaces) else None


@dataclass(frozen=True)
class PrefixLengths:
    """The line of one text, encoded: counts tokens of the lines of its beginnings."""

    backend: Any
    starts: Sequence[int]  # of the line's tokens, in characters of the line
    ends: Sequence[int]

    @classmethod
    def of(cls, backend: Any, encoded: Any, ids: Sequence[int]) -> PrefixLengths | None:
        """``encoded``: the text's line by ``backend``; ``ids``: by the engine. None where these differ, or their order
        is not that of the text."""
        starts, ends = zip(*encoded.offsets, strict=True)
        if encoded.ids != list(ids) or sorted(ends) != list(ends):
            return None
        return cls(backend, starts, ends)

    def tokens(self, beginning: str, enough: int) -> int:
        """Tokens of a beginning's line; where they are ``enough`` or more, maybe fewer than they are, but enough."""
        space = beginning.rfind(" ", 0, max(0, beginning.rfind(" ")))
        place = len(_HEAD) + space
        before = bisect_right(self.ends, place)
        if space < 0 or (before < len(self.starts) and self.starts[before] < place):  # a token stands across it
            return self._count(beginning)
        if before >= enough:
            return before
        head = bisect_right(self.ends, len(_HEAD) - 1)
        return before + self._count(beginning[space + 1 :]) - head

    def _count(self, text: str) -> int:
        return len(self.backend.encode(line(text), add_special_tokens=False).ids)
