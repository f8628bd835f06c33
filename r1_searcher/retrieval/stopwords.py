"""Stop words: a list of bm25s by its language, the user's own list, or a file with one word per line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from r1_searcher.errors import PipelineError

NONE = "none"
WHERE = "params.yaml, index.stopwords"
_SHOWN = 8  # words in a message

# Languages of bm25s' stop-word lists, and the lists' names there.
_LISTS = {
    "chinese": "STOPWORDS_CHINESE",
    "danish": "STOPWORDS_DANISH",
    "dutch": "STOPWORDS_DUTCH",
    "english": "STOPWORDS_EN",
    "english_plus": "STOPWORDS_EN_PLUS",
    "french": "STOPWORDS_FRENCH",
    "german": "STOPWORDS_GERMAN",
    "italian": "STOPWORDS_ITALIAN",
    "korean": "STOPWORDS_KOREAN",
    "norwegian": "STOPWORDS_NORWEGIAN",
    "portuguese": "STOPWORDS_PORTUGUESE",
    "russian": "STOPWORDS_RUSSIAN",
    "spanish": "STOPWORDS_SPANISH",
    "swedish": "STOPWORDS_SWEDISH",
    "turkish": "STOPWORDS_TURKISH",
}


def read(chosen: str | Sequence[str]) -> list[str]:
    """Return the words of a list's name, of a file (a path with a / or ending in .txt), or of a list.

    In a file, empty lines and lines that begin with # are left out. Raises ``PipelineError`` for an unknown name, an
    unreadable file, and a list without words.
    """
    if chosen == NONE:
        return []
    if not isinstance(chosen, str):
        words = [word.strip() for word in chosen]
    elif "/" in chosen or chosen.endswith(".txt"):
        lines = (line.strip() for line in _text(Path(chosen)).splitlines())
        words = [line for line in lines if line and not line.startswith("#")]
    elif chosen in _LISTS:
        import bm25s.stopwords

        return list(getattr(bm25s.stopwords, _LISTS[chosen]))
    else:
        raise PipelineError(
            f"no stop-word list {chosen!r}",
            where=WHERE,
            fix=f"known: {NONE}, {', '.join(_LISTS)}; or a list of words, or a file: ./words.txt",
        )
    if not words:
        raise PipelineError("no stop words here", where=WHERE, fix=f"for no stop words write {NONE}")
    return words


def recorded(chosen: str | Sequence[str]) -> str | list[str]:
    """Return what an index' meta.json says of its stop words: the list's name, or the user's own words."""
    words = read(chosen)
    return chosen if isinstance(chosen, str) and (chosen == NONE or chosen in _LISTS) else sorted(set(words))


def is_own(chosen: str | Sequence[str]) -> bool:
    """Return whether the stop words are the user's own, each of which must be able to match."""
    return not (isinstance(chosen, str) and (chosen == NONE or chosen in _LISTS))


def refuse(never: Sequence[str], words: Sequence[str], chosen: str | Sequence[str]) -> None:
    """Raise ``PipelineError`` if words of the user's own can ``never`` match, or most words of a built-in list."""
    if not never or not (is_own(chosen) or 2 * len(never) > len(words)):
        return
    shown = ", ".join(repr(word) for word in never[:_SHOWN]) + (", …" if len(never) > _SHOWN else "")
    raise PipelineError(
        f"{len(never):,} of {len(words):,} stop words can never match, because the tokenizer never makes one word of "
        f"them: {shown}",
        where=WHERE,
        fix="remove them, or write each part as a word of its own"
        if is_own(chosen)
        else "choose another index.tokenizer",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PipelineError(f"cannot read the stop words: {error.strerror}", where=str(path), fix=WHERE) from None
    except UnicodeDecodeError:
        raise PipelineError("the stop words are not UTF-8", where=str(path), fix=WHERE) from None
