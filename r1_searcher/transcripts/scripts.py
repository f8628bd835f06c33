"""Which scripts a transcript may be written in outside its documents: a rule against mixed languages.

The paper's rule is a ban on Chinese characters. Others are lists of allowed Unicode scripts: a letter of any other
script breaks them. Digits, punctuation, symbols and combining marks belong to no one script and are always allowed, and
the grammar's tags are not text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

PAPER = "paper"  # no Chinese characters (U+4E00–U+9FFF)
ANY = "any"  # no rule
SCRIPT_NAMES = (
    *("Arabic", "Armenian", "Bengali", "Bopomofo", "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek"),
    *("Gujarati", "Gurmukhi", "Han", "Hangul", "Hebrew", "Hiragana", "Kannada", "Katakana", "Khmer", "Lao", "Latin"),
    *("Malayalam", "Mongolian", "Myanmar", "Oriya", "Sinhala", "Syriac", "Tamil", "Telugu", "Thaana", "Thai"),
    "Tibetan",
)

Scripts = str | tuple[str, ...]  # PAPER, ANY, or names of SCRIPT_NAMES

_CJK = re.compile("[\u4e00-\u9fff]")


def checked(given: object) -> Scripts:
    """Return a choice of scripts in its plain form. Raises ``ValueError`` with all names for an unknown one."""
    if given in (PAPER, ANY):
        return str(given)
    names = [given] if isinstance(given, str) else given
    whole = f"{PAPER} (no Chinese characters), {ANY}, or a list of {', '.join(SCRIPT_NAMES)}"
    if not isinstance(names, Sequence) or not names:
        raise ValueError(f"{given!r:.40} chooses no scripts; known: {whole}")
    unknown = [name for name in names if name not in SCRIPT_NAMES]
    if unknown:
        raise ValueError(f"no script {unknown[0]!r:.40}; known: {whole}")
    return tuple(dict.fromkeys(names))


def has_cjk(text: str) -> bool:
    """Return whether CJK characters (U+4E00–U+9FFF) occur."""
    return _CJK.search(text) is not None


def script_violations(text: str, scripts: Scripts, *, tags: Iterable[str] = ()) -> list[str]:
    """Return the name of the broken rule, if a text without documents breaks it: ``cjk`` for the paper's, ``script``
    for a list of scripts. ``tags`` are not looked at."""
    if scripts == ANY:
        return []
    if scripts == PAPER:
        return ["cjk"] if has_cjk(text) else []
    for tag in tags:
        text = text.replace(tag, " ")
    return [] if _outsiders(tuple(scripts)).search(text) is None else ["script"]


@functools.cache
def _outsiders(scripts: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of the letters that belong to none of the scripts."""
    import regex  # only here: the paper's rule needs no library

    allowed = "".join(rf"\p{{Script={name}}}" for name in ("Common", "Inherited", *scripts))
    found: re.Pattern[str] = regex.compile(rf"(?=\p{{L}})[^{allowed}]")
    return found


def in_words(scripts: Scripts) -> str:
    """Return the choice for a message."""
    return scripts if isinstance(scripts, str) else f"[{', '.join(scripts)}]"
