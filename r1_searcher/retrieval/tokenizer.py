"""Words of a text, for the index and for queries alike, in any language that Unicode knows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from r1_searcher.errors import PipelineError

NONE = "none"

# Languages of bm25s' stop-word lists, and the lists' names there.
_STOPWORD_LISTS = {
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

# A script without spaces gives one word a character: Chinese ideographs, Japanese kana, and Thai, Lao, Khmer.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Python's \w leaves out combining marks and would cut Hebrew, Arabic and Indic words at their vowel signs.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0970-\u0dff"
)
_WORD = re.compile(f"[{_UNSPACED}]|(?:[^\\W_{_UNSPACED}]|[{_MARKS}])+")


class Tokenizer:
    """Lower-case words (NFKC), stop words left out, then stemmed.

    ``stemmer``: a Snowball language of PyStemmer, or ``none``. ``stopwords``: a language of bm25s'
    lists, or ``none``. An unknown name is a ``PipelineError`` that lists the known ones.
    """

    def __init__(self, stemmer: str = NONE, stopwords: str = NONE) -> None:
        self._stem = _stemmer(stemmer)
        self._stopwords = _stopword_set(stopwords)

    def __call__(self, text: str) -> list[str]:
        """The words of ``text`` in their order, repetitions kept."""
        words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
        if self._stopwords:
            words = [word for word in words if word not in self._stopwords]
        return words if self._stem is None else self._stem(words)


def _stemmer(language: str) -> Callable[[list[str]], list[str]] | None:
    if language == NONE:
        return None
    import Stemmer

    known = Stemmer.algorithms()
    if language not in known:
        raise PipelineError(
            f"no stemmer {language!r}",
            where="params.yaml, index.stemmer",
            fix=f"known: {NONE}, {', '.join(sorted(known))}",
        )
    stem: Callable[[list[str]], list[str]] = Stemmer.Stemmer(language).stemWords
    return stem


def _stopword_set(language: str) -> frozenset[str]:
    if language == NONE:
        return frozenset()
    if language not in _STOPWORD_LISTS:
        raise PipelineError(
            f"no stop-word list {language!r}",
            where="params.yaml, index.stopwords",
            fix=f"known: {NONE}, {', '.join(_STOPWORD_LISTS)}",
        )
    import bm25s.stopwords

    return frozenset(getattr(bm25s.stopwords, _STOPWORD_LISTS[language]))
