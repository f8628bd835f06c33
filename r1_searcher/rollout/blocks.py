"""Build the document block to insert from found passages: within its budgets, safe for the policy's tokenizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.rollout.prefix_lengths import PrefixLengths, line, parts_at_spaces
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.documents import CHAT_TOKENS, FORBIDDEN_TEXTS, cut, neutralise, special_tokens
from r1_searcher.types.protocols import Engine, Passage, tokenizer_of

_CHARACTERS_A_TOKEN = 16  # first guess: of a long passage, encode only about as much as may be shown


class Blocks:
    """Builds document blocks for one engine, and caches each passage's text and token count.

    ``tags``: further tags, beside the grammar's, that no passage may contain.
    """

    def __init__(self, engine: Engine, rollout: params.Rollout, tags: Sequence[str] = ()) -> None:
        self._engine, self._rollout = engine, rollout
        tokenizer = tokenizer_of(engine)
        special = special_tokens(tokenizer)
        self._special = (*CHAT_TOKENS, *special, *tags)
        self._texts = (*FORBIDDEN_TEXTS, *special, *tags)
        single = [ids[0] for ids in map(engine.encode, (*grammar.TAGS, *tags)) if len(ids) == 1]
        self._ids = frozenset([*special.values(), *single])
        self._empty = len(engine.encode("(1)\n"))
        self._backend = parts_at_spaces(tokenizer)
        # The engine then promises the same tokens as this library, so that one encoding serves both.
        library = getattr(getattr(engine, "codec", None), "library", None)
        self._is_library = library is not None and library is self._backend
        self._known: dict[str, tuple[str, int]] = {}  # whole text of a passage → text shown, its tokens

    def render(self, passages: Sequence[Passage]) -> str:
        """Return the block of a search's passages, best first."""
        return grammar.render_documents(self.texts(passages))

    def texts(self, passages: Sequence[Passage]) -> list[str]:
        """Return the text that the block shows of each passage.

        Each passage is cut to ``max_passage_tokens``. If together they exceed ``max_documents_tokens``, the longest are
        cut to equal lengths, so that none is left out. A passage's tokens are those that it adds to its line.
        """
        shown = [self._prepared(passage) for passage in passages]
        texts = [text for text, _ in shown]
        budget = self._rollout.max_documents_tokens
        if budget and texts:
            share = _share([count for _, count in shown], budget)
            texts = [self.fit(text, share) if count > share else text for text, count in shown]
        return texts

    def _prepared(self, passage: Passage) -> tuple[str, int]:
        whole = passage.text if self._rollout.passages == "text" else f"{passage.title}: {passage.text}"
        if whole not in self._known:
            self._known[whole] = self._neutralised(whole)
        return self._known[whole]

    def _neutralised(self, whole: str) -> tuple[str, int]:
        """Return the text, neutralised and cut so that the tokenizer reads only plain text, and its token count."""
        for strict in (False, True):
            neutral = neutralise(whole, self._special, strict=strict)
            text, ids = self._fit_with_tokens(neutral, self._rollout.max_passage_tokens)
            if self._ids.isdisjoint(ids):
                read = self._engine.decode(ids)
                if not any(one in read for one in self._texts):
                    return text, len(ids) - self._empty
        raise PipelineError(
            "this policy's tokenizer makes special tokens of plain text, so that no passage is safe from it",
            fix="choose a policy with another tokenizer",
        )

    def count(self, text: str) -> int:
        """Count the tokens that a passage adds to its line of the block, including the space before it."""
        return len(self._engine.encode(line(text))) - self._empty

    def fit(self, text: str, limit: int) -> str:
        """Return the longest beginning of a neutralised text that has at most ``limit`` tokens."""
        return self._fit_with_tokens(text, limit)[0]

    def _fit_with_tokens(self, text: str, limit: int) -> tuple[str, list[int]]:
        """As ``fit``; also return the tokens (N,) of the resulting line."""
        most, length = limit + self._empty, _CHARACTERS_A_TOKEN * limit
        while True:
            part = cut(text, length) if length < len(text) else text
            encoded = self._encoded(part) if self._is_library else None  # with offsets: the text may have to be cut
            ids = self._engine.encode(line(part)) if encoded is None else encoded.ids
            if len(ids) > most:
                break
            if length >= len(text):
                return part, ids
            length *= 2
        beginnings = None
        if self._backend is not None:
            encoded = self._encoded(part) if encoded is None else encoded
            beginnings = PrefixLengths.of(self._backend, encoded, ids)
        if beginnings is not None:
            tokens = functools.partial(beginnings.tokens, enough=most + 1)
            found = _longest_prefix(part, lambda beginning: tokens(beginning) <= most)
            ids = self._engine.encode(line(found))
            if len(ids) == tokens(found):
                return found, ids
        found = _longest_prefix(part, lambda beginning: self.count(beginning) <= limit)
        return found, self._engine.encode(line(found))

    def _encoded(self, text: str) -> Any:
        assert self._backend is not None
        return self._backend.encode(line(text), add_special_tokens=False)


def _longest_prefix(text: str, fits: Callable[[str], bool]) -> str:
    """Bisect for a beginning of the text that fits while one more letter does not. Shorter ones need not all fit."""
    low, high = 0, len(text)  # fits at `low`, not at `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(cut(text, middle)) else (low, middle)
    return cut(text, low)


def _share(counts: Sequence[int], budget: int) -> int:
    """Return the largest length to cut all texts to so that their sum is within ``budget``; at least 1."""
    left = budget
    for place, count in enumerate(sorted(counts)):
        share = left // (len(counts) - place)
        if count > share:
            return max(1, share)
        left -= count
    return max(counts)
