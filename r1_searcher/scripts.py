"""Scripts that are written without spaces between words, as ranges for a class of a regular expression."""

from __future__ import annotations

import re

_HAN_AND_KANA = (
    "\u3005-\u3007\u3041-\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U000323af"
)
_HANGUL = "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # written with spaces, but with particles on its words
CJK = _HANGUL + _HAN_AND_KANA
THAI = "\u0e00-\u0eff\u1780-\u17ff"  # and Lao and Khmer

_UNSPACED = f"{THAI}\u1000-\u109f{_HAN_AND_KANA}"
# A word is what stands between spaces; in scripts without them, a character with the marks and punctuation around it.
_WORD = re.compile(f"[^\\w\\s]*[{_UNSPACED}][^\\w\\s]*|[^\\s{_UNSPACED}]+")
_ANY = re.compile(r"\S+")
_CONNECTED = re.compile(f"[{_UNSPACED}{_HANGUL}]")


def words(text: str) -> list[str]:
    """Return the words of a text as lengths count them: a character each in scripts without spaces."""
    return text.split() if text.isascii() else _WORD.findall(text)


def without_spaces(text: str) -> bool:
    """Return whether a character of a script without spaces occurs, or one of Korean."""
    return not text.isascii() and _CONNECTED.search(text) is not None


def cut(text: str, most: int) -> list[str]:
    """Return the text in pieces of ``most`` words (``words``), the last shorter, without the white space between."""
    if len(text) <= most or len(words(text)) <= most:
        return [text]
    spans = [found.span() for found in (_ANY if text.isascii() else _WORD).finditer(text)]
    firsts = range(0, len(spans), most)
    return [text[spans[first][0] : spans[min(first + most, len(spans)) - 1][1]] for first in firsts]
