"""Texts as numbers of their terms, while an index is built."""

from __future__ import annotations

from collections import defaultdict

from r1_searcher.retrieval.tokenizer import Tokenizer

_KNOWN_WORDS = 1 << 20  # words whose terms are kept at once, about 150 MB


class TermNumbers:
    """``vocabulary``: term to id. A new term's id is the number of terms before it.

    A word is looked up with its term's id, so that stop words and stems are worked out once for a word and not at each
    of its occurrences.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocabulary: defaultdict[str, int] = defaultdict()
        self.vocabulary.default_factory = self.vocabulary.__len__
        self._split, self._plain = tokenizer.split, tokenizer.plain
        self._number = (self.vocabulary if self._plain else _Known(tokenizer, self.vocabulary)).__getitem__

    def __call__(self, text: str) -> list[int]:
        """The ids of the text's terms in their order, repetitions kept."""
        ids = list(map(self._number, self._split(text)))
        return ids if self._plain else [number for number in ids if number >= 0]


class _Known(dict[str, int]):
    """Word to its term's id, or -1 for a stop word."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: defaultdict[str, int]) -> None:
        super().__init__()
        self._tokenizer, self._vocabulary = tokenizer, vocabulary

    def __missing__(self, word: str) -> int:
        if len(self) >= _KNOWN_WORDS:
            self.clear()
        term = self._tokenizer.term(word)
        self[word] = number = -1 if term is None else self._vocabulary[term]
        return number
