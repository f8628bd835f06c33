"""Letters that count as equal in a search: case, and with ``accents`` also accents and vowel signs.

Arabic follows Lucene's ArabicNormalizer as far as the Snowball stemmer still works on the result (ta marbuta stays).
"""

from __future__ import annotations

import unicodedata
from typing import Literal

Folding = Literal["accents", "case", "turkish"]

_TURKISH = str.maketrans({"I": "ı", "İ": "i"})

# Marks that writers leave out: accents (also on Cyrillic letters, for stress), Hebrew points, Arabic vowel signs and
# the tatweel, which stretches a word. The vowel signs of Indic and other scripts are letters, and stay.
_LEFT_OUT = [
    (0x0300, 0x036F),
    (0x0591, 0x05BD),
    (0x05BF, 0x05BF),
    (0x05C1, 0x05C2),
    (0x05C4, 0x05C5),
    (0x05C7, 0x05C7),
    (0x0610, 0x061A),
    (0x0640, 0x0640),
    (0x064B, 0x0652),
    (0x0670, 0x0670),
    (0x06D6, 0x06DC),
    (0x06DF, 0x06E4),
    (0x06E7, 0x06E8),
    (0x06EA, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0xFE20, 0xFE2F),
]
_MARKS = frozenset(chr(code) for first, last in _LEFT_OUT for code in range(first, last + 1))

# Letters that Unicode does not decompose, as they are typed without them.
_TYPED = {
    **{"ß": "ss", "ς": "σ", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ħ": "h"},
    **{"ŧ": "t", "ı": "i", "ŋ": "n", "ĸ": "k"},
    **{"ё": "е", "ѐ": "е", "ѝ": "и"},  # й, ї and the like are letters of their own
    **{"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي"},
}
_CYRILLIC = range(0x0400, 0x0530)


class Letters(dict[int, str]):
    """A table for ``str.translate`` from code points of lower-case NFKC text to folded letters, filled on demand."""

    def __missing__(self, code: int) -> str:
        """Compute and keep the entry of ``code``."""
        self[code] = made = _folded(chr(code))
        return made


def _folded(letter: str) -> str:
    if letter in _TYPED:
        return _TYPED[letter]
    if ord(letter) in _CYRILLIC and letter not in _MARKS:
        return letter
    parts = unicodedata.normalize("NFD", letter)
    kept = "".join(part for part in parts if part not in _MARKS)
    return unicodedata.normalize("NFC", "".join(_TYPED.get(part, part) for part in kept))


def lower(text: str, folding: Folding) -> str:
    """Return ``text`` in NFKC and lower case. Accents stay: ``Letters`` folds them, if ``folding`` says so."""
    if folding == "turkish":
        text = unicodedata.normalize("NFC", text).translate(_TURKISH)
    return unicodedata.normalize("NFKC", text).lower()


def fold(text: str) -> str:
    """Return a text as ``accents`` folds it; ASCII text stays as it is, with its case."""
    return text if text.isascii() else lower(text, "accents").translate(Letters())
