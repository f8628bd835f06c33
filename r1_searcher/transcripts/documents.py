"""Passages are data: an inserted passage contains no tag, no special token and no control character.

``neutralise`` is visible and invertible. White space is layout and is folded to single spaces; of the rest,

- the angle brackets of anything that looks like a tag become ‹ and ›,
- ⟦1B⟧ (a code point in hexadecimal) replaces invisible characters and those that end a line (controls, zero-width,
  bidirectional overrides, variation selectors, private use, lone surrogates), characters that some tokenizers fold to
  an angle bracket (full-width, small, with a stroke), the first character of a special token without angle brackets,
  and the passage's own ‹, › or ⟦.

Letters that merely look like others stay: no tokenizer makes a tag of them.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from r1_searcher.transcripts.grammar import END_OF_TEXT_TOKENS, TAGS

FORBIDDEN_TEXTS = (*TAGS, *END_OF_TEXT_TOKENS)  # what no document may contain, whatever the tokenizer
# Special tokens without angle brackets that a served model may have; a local policy's come from its tokenizer.
CHAT_TOKENS = tuple(
    f"[{slash}{name}]"
    for name in ("INST", "SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_CALLS", "TOOL_RESULTS")
    for slash in ("", "/")
)

_SPACE = re.compile("[\t-\r \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")

# Controls; Unicode's Default_Ignorable_Code_Point; line and paragraph separators; annotation marks; surrogates, private
# use and noncharacters of the basic plane; private use beyond it.
_UNSEEN = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\uf8ff\ufdd0-\ufdef\ufffe\uffff\U000f0000-\U0010ffff"
)
_FOLDED = "＜﹤≮＞﹥≯"  # become an angle bracket by NFKC, or by NFD without marks
_OWN = "‹›⟦"
# "<" may only open a comparison or an arrow: white space, a digit, "=" or "-" follows. "<0x0A>" is a byte to some
# tokenizers.
_NAMES = "think|answer|begin_of|end_of|endoftext|im_|start_|eot|eom|sep|pad|unk|bos|eos|s>"
_MARKED = re.compile(
    rf"[{_UNSEEN}{_FOLDED}{_OWN}]|<(?![ \d=-]|\Z)|<(?=0x[\da-f]{{2}}>)|<(?= [/|｜]? ?(?:{_NAMES}))|(?<=[|｜])>",
    re.IGNORECASE,
)
_ESCAPE = re.compile("⟦([0-9A-F]{2,6})⟧")
_CONTROL = re.compile(r"<[|｜][^<>\s]{1,40}[|｜]>|<(start|end)_of_turn>|</?s>")
_HALF_ESCAPE = re.compile(r"⟦[0-9A-F]{0,6}\Z")
_HARMLESS = re.compile(r"[^\W_]|[ .,;:!?'\"()-]")  # what `strict` leaves unchanged
_BRACKETS = {"<": "‹", ">": "›"}
_BRACKETED = re.compile(r"\s*[<\[＜].*[>\]＞]\s*\Z", re.DOTALL)
_MARKUP = re.compile(r"[^\w\s]|_")


def fold_space(text: str) -> str:
    """Fold white space to single spaces, with none at the ends. ``neutralise`` loses only this much of a passage."""
    return _SPACE.sub(" ", text).strip(" ")


def neutralise(text: str, special: Iterable[str] = CHAT_TOKENS, *, strict: bool = False) -> str:
    """Return a passage in the form that may be inserted. ``special``: texts of special tokens; look-alikes are found
    too.

    ``strict`` leaves letters, digits and plain punctuation unchanged and escapes the rest. Injective except for white
    space: ``restore`` is the inverse. So neutralising twice escapes twice.
    """
    text = fold_space(text)
    marked = {match.start(): _BRACKETS.get(match[0]) or _escape(match[0]) for match in _MARKED.finditer(text)}
    for place in _places(text, special):
        marked.setdefault(place, _escape(text[place]))
    if strict:
        risky = {place for place, letter in enumerate(text) if not _HARMLESS.match(letter)}
        marked = {place: _escape(text[place]) for place in risky | marked.keys()}
    if not marked:
        return text
    parts, done = [], 0
    for place in sorted(marked):
        parts += [text[done:place], marked[place]]
        done = place + 1
    return "".join(parts) + text[done:]


def holds_control(text: str) -> bool:
    """Return whether ``text`` contains a tag of the grammar, an end of text or a chat's control token, in any spelling
    that a tokenizer may fold to it."""
    plain = _plain(text)
    return bool(_CONTROL.search(plain)) or any(_plain(one) in plain for one in (*FORBIDDEN_TEXTS, *CHAT_TOKENS))


def restore(text: str) -> str:
    """Invert ``neutralise``: ``restore(neutralise(text)) == fold_space(text)``."""
    plain = text.replace("‹", "<").replace("›", ">")
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), plain)


def cut(text: str, length: int) -> str:
    """Return the first ``length`` characters of a neutralised text without cutting an escape."""
    return _HALF_ESCAPE.sub("", text[:length]).rstrip(" ")


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Return texts and ids of a tokenizer's tokens that a passage must never become (empty for a tokenizer of None).

    Its special tokens, and added ones in brackets. Added words (years, numbers) are ordinary text, and so are special
    tokens that are single characters or words. Ordinary text may become the unknown token.
    """
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    named = {str(token): number for number, token in added.items() if token.special or _BRACKETED.match(str(token))}
    unknown, *others = (getattr(tokenizer, f"{name}_token", None) for name in ("unk", "eos", "bos", "pad"))
    found = {text: number for text, number in named.items() if _MARKUP.search(text) and len(text) > 2}
    # Qwen's unknown token is its end of text, which does count.
    return {text: number for text, number in found.items() if text != unknown or text in others}


def _escape(letter: str) -> str:
    return f"⟦{ord(letter):02X}⟧"


def _plain(text: str) -> str:
    """Return the text as the most lenient tokenizer reads it: without compatibility forms, marks and case."""
    if text.isascii():
        return text.lower()
    # Surrogates decompose to themselves; marks are dropped anywhere.
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text) if unicodedata.category(letter) != "Mn"
    ).casefold()


@functools.lru_cache(maxsize=16)  # a tokenizer's special tokens are the same for every passage
def _plain_tokens(special: tuple[str, ...]) -> list[str]:
    return [plain for one in special if (plain := _plain(one).strip())]


def _places(text: str, special: Iterable[str]) -> list[int]:
    """Return where special tokens, or text that may be folded to them, begin."""
    wanted = _plain_tokens(tuple(special))
    whole = _plain(text)
    if not any(one in whole for one in wanted):
        return []
    pieces = [_plain(letter) for letter in text]
    starts, place = {}, 0
    for number, piece in enumerate(pieces):
        for offset in range(len(piece)):
            starts[place + offset] = number
        place += len(piece)
    joined = "".join(pieces)
    found = (match.start() for one in wanted for match in re.finditer(f"(?={re.escape(one)})", joined))
    return sorted({starts[start] for start in found})
