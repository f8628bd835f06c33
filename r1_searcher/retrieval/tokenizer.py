"""Words of a text, for the index and for queries alike, in any language that Unicode knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.retrieval import folding as folds
from r1_searcher.retrieval import stopwords as stops
from r1_searcher.retrieval.model_tokenizer import open_tokenizer
from r1_searcher.scripts import CJK, THAI

CHARACTERS, BIGRAMS, BOTH = "characters", "bigrams", "characters_and_bigrams"
CJK_KINDS = (BOTH, BIGRAMS, CHARACTERS)

# The scripts whose characters are words if no bigrams are made; Korean has spaces then. Thai is never in bigrams.
_UNSPACED = f"{THAI}\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Python's \w leaves out combining marks and would cut Hebrew, Arabic and Indic words at their vowel signs.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0970-\u0dff"
)
_BY_CHARACTERS = re.compile(f"[{_UNSPACED}]|(?:[^\\W_{_UNSPACED}]|[{_MARKS}])+")
_BY_RUNS = re.compile(f"[{CJK}]+|[{THAI}]|(?:[^\\W_{THAI}{CJK}]|[{_MARKS}])+")
_WHOLE = re.compile(f"[{CJK}]+|[{THAI}]+|(?:[^\\W_{THAI}{CJK}]|[{_MARKS}])+")  # for another's tokenizer
_RUN = re.compile(f"[{CJK}]+")

# ASCII letters need no Unicode rules: letters become small, everything but letters and digits a space.
_ASCII = "".join(chr(code).lower() if chr(code).isalnum() else " " for code in range(128))
_ASCII_TURKISH = f"{_ASCII[: ord('I')]}ı{_ASCII[ord('I') + 1 :]}"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_SPARSE = 1.1  # bytes per character up to which words with other letters are looked for one by one


class Tokenizer:
    """Lower-case words (NFKC), stop words left out, then stemmed.

    Args:
        stemmer: a Snowball language of PyStemmer, or ``none``.
        stopwords: a language of bm25s' lists, ``none``, a file, or the words themselves (``stopwords.read``). They are
            folded as the text is.
        folding: ``accents``: letters with and without accents and vowel signs are equal, and so are all i's; ``case``:
            only capitals and small letters are; ``turkish``: the same by Turkish rules (I and ı, İ and i).
        kind: how Chinese, Japanese and Korean are cut, one of ``CJK_KINDS`` (``bigrams`` as Lucene's CJKBigramFilter);
            or the path of a Hugging Face tokenizer.json, which then cuts all text into its tokens.

    Raises ``PipelineError`` for an unknown name (it lists the known ones), for stop words that can never match, and for
    a stemmer beside a tokenizer.json.
    """

    def __init__(
        self,
        stemmer: str = stops.NONE,
        stopwords: str | Sequence[str] = stops.NONE,
        *,
        folding: folds.Folding = "accents",
        kind: str = BOTH,
    ) -> None:
        self._folding: folds.Folding = folding
        self._letters = folds.Letters()
        self._ascii = _ASCII_TURKISH if folding == "turkish" else _ASCII
        self._kind = kind
        self._tokens = None if kind in CJK_KINDS else open_tokenizer(Path(kind))
        if self._tokens is not None and stemmer != stops.NONE:
            raise PipelineError(
                "a tokenizer.json makes tokens, which have no stems",
                where="params.yaml, index.stemmer",
                fix="set it to none",
            )
        self._stem = _stemmer(stemmer)
        words = stops.read(stopwords)
        forms = {word: self._form(word) for word in words}
        stops.refuse([word for word, form in forms.items() if form is None], words, stopwords)
        self._stopwords = frozenset(form for form in forms.values() if form is not None)
        self.plain = self._stem is None and not self._stopwords  # every word that ``split`` gives is a term

    def __call__(self, text: str) -> list[str]:
        """The terms of ``text`` in their order, repetitions kept."""
        words = self.split(text)
        if self._stopwords:
            words = [word for word in words if word not in self._stopwords]
        return words if self._stem is None else self._stem(words)

    def term(self, word: str) -> str | None:
        """The term of one word that ``split`` gave; None for a stop word."""
        if word in self._stopwords:
            return None
        return word if self._stem is None else self._stem([word])[0]

    def split(self, text: str) -> list[str]:
        """The words of ``text``, before stop words are left out and stems made."""
        if self._tokens is not None:
            return self._tokens(map(self._folded, _WHOLE.findall(folds.lower(text, self._folding))))
        if text.isascii():
            return text.translate(self._ascii).split()
        if len(text.encode(errors="surrogatepass")) > _SPARSE * len(text):
            return self.split_unicode(text)
        words, done = list[str](), 0
        while other := _NOT_ASCII.search(text, done):  # no rule of Unicode looks beyond a space
            begin = max(done, text.rfind(" ", done, other.start()) + 1)
            end = text.find(" ", other.end())
            end = len(text) if end < 0 else end
            words += text[done:begin].translate(self._ascii).split()
            words += self.split_unicode(text[begin:end])
            done = end
        return words + text[done:].translate(self._ascii).split()

    def split_unicode(self, text: str) -> list[str]:
        """As ``split``, without the short way for ASCII letters."""
        text = folds.lower(text, self._folding)
        if self._kind == CHARACTERS:
            words = _BY_CHARACTERS.findall(text)
            if self._folding != "accents":
                return words
            return [form for word in words if (form := word if word.isascii() else self._folded(word))]
        words = []
        for word in _BY_RUNS.findall(text):
            if word.isascii():
                words.append(word)
            elif folded := self._folded(word):
                words.extend(self._grams(folded)) if _RUN.match(folded) else words.append(folded)
        return words

    def _folded(self, word: str) -> str:
        return word.translate(self._letters) if self._folding == "accents" else word

    def _grams(self, run: str) -> list[str]:
        """The pairs of neighbours in a run of CJK characters; a single character stays."""
        pairs = [run[place : place + 2] for place in range(len(run) - 1)]
        return [*run, *pairs] if self._kind == BOTH else pairs or [run]

    def _form(self, stopword: str) -> str | None:
        """The word that a stop word stops; None if the tokenizer never makes it."""
        found = self.split(stopword)
        if self._tokens is not None or len(found) < 2:
            return found[0] if len(found) == 1 else None
        whole = self._folded(folds.lower(stopword, self._folding))
        return whole if _RUN.fullmatch(whole) and whole in found else None


def _stemmer(language: str) -> Callable[[list[str]], list[str]] | None:
    if language == stops.NONE:
        return None
    import Stemmer

    known = Stemmer.algorithms()
    if language not in known:
        raise PipelineError(
            f"no stemmer {language!r}",
            where="params.yaml, index.stemmer",
            fix=f"known: {stops.NONE}, {', '.join(sorted(known))}",
        )
    stem: Callable[[list[str]], list[str]] = Stemmer.Stemmer(language).stemWords
    return stem
