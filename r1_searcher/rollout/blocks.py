"""From found passages to the document block that is inserted, within its budgets, safe for the policy's tokenizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.rollout.prefix_lengths import PrefixLengths, line, parts_at_spaces
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.documents import CHAT_TOKENS, NEVER, cut, neutralise, special_tokens
from r1_searcher.types.protocols import Engine, Passage

_CHARACTERS_A_TOKEN = 16  # to begin with: of a long passage only as much is encoded as may be shown


class Blocks:
    """Makes document blocks for one engine. A passage that is found again is not worked on again.

    ``tags``: those beside the grammar's that no passage may hold either.
    """

    def __init__(self, engine: Engine, rollout: params.Rollout, tags: Sequence[str] = ()) -> None:
        self._engine, self._rollout = engine, rollout
        tokenizer = getattr(engine, "tokenizer", None)
        special = special_tokens(tokenizer)
        self._special = (*CHAT_TOKENS, *special, *tags)
        self._texts = (*NEVER, *special, *tags)
        single = [ids[0] for ids in map(engine.encode, (*grammar.TAGS, *tags)) if len(ids) == 1]
        self._ids = frozenset([*special.values(), *single])
        self._empty = len(engine.encode("(1)\n"))
        self._backend = parts_at_spaces(tokenizer)
        # Whether the engine promises to make the tokens that this library makes: then it need not make them too.
        library = getattr(getattr(engine, "codec", None), "library", None)
        self._is_library = library is not None and library is self._backend
        self._known: dict[str, tuple[str, int]] = {}  # by a passage's whole text: what is shown of it, and its tokens

    def render(self, passages: Sequence[Passage]) -> str:
        """The block of a search's passages, best first."""
        return grammar.render_documents(self.texts(passages))

    def texts(self, passages: Sequence[Passage]) -> list[str]:
        """What the block shows of each of a search's passages.

        Each is cut at ``max_passage_tokens``. Where all of them exceed ``max_documents_tokens``, the longest
        are cut to equal lengths, so that none is left out. A passage's tokens are those that it adds to its line.
        """
        shown = [self._shown(passage) for passage in passages]
        texts = [text for text, _ in shown]
        budget = self._rollout.max_documents_tokens
        if budget and texts:
            share = _share([count for _, count in shown], budget)
            texts = [self.fit(text, share) if count > share else text for text, count in shown]
        return texts

    def _shown(self, passage: Passage) -> tuple[str, int]:
        whole = passage.text if self._rollout.passages == "text" else f"{passage.title}: {passage.text}"
        if whole not in self._known:
            self._known[whole] = self._safe(whole)
        return self._known[whole]

    def _safe(self, whole: str) -> tuple[str, int]:
        """Neutralised, cut, and read by the tokenizer as nothing but text; and how many tokens that is."""
        for strict in (False, True):
            neutral = neutralise(whole, self._special, strict=strict)
            text, ids = self._fitted(neutral, self._rollout.max_passage_tokens)
            if self._ids.isdisjoint(ids):
                read = self._engine.decode(ids)
                if not any(one in read for one in self._texts):
                    return text, len(ids) - self._empty
        raise PipelineError(
            "this policy's tokenizer makes special tokens of plain text, so that no passage is safe from it",
            fix="choose a policy with another tokenizer",
        )

    def count(self, text: str) -> int:
        """The tokens that a passage adds to its line of the block, the space before it included."""
        return len(self._engine.encode(line(text))) - self._empty

    def fit(self, text: str, limit: int) -> str:
        """The beginning of a neutralised text that has at most ``limit`` tokens, as long as that allows."""
        return self._fitted(text, limit)[0]

    def _fitted(self, text: str, limit: int) -> tuple[str, list[int]]:
        """``fit``, and the tokens (N,) of the line with what is left."""
        most, length = limit + self._empty, _CHARACTERS_A_TOKEN * limit
        while True:
            part = cut(text, length) if length < len(text) else text
            encoded = self._encoded(part) if self._is_library else None  # with offsets: it may have to be cut
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
            found = _longest(part, lambda beginning: tokens(beginning) <= most)
            ids = self._engine.encode(line(found))
            if len(ids) == tokens(found):
                return found, ids
        found = _longest(part, lambda beginning: self.count(beginning) <= limit)
        return found, self._engine.encode(line(found))

    def _encoded(self, text: str) -> Any:
        assert self._backend is not None
        return self._backend.encode(line(text), add_special_tokens=False)


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """A beginning of a text that fits, where one letter more does not, by halving: not every shorter one has to fit."""
    low, high = 0, len(text)  # at `low` it fits, at `high` it does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(cut(text, middle)) else (low, middle)
    return cut(text, low)


def _share(counts: Sequence[int], budget: int) -> int:
    """The largest length to which all have to be cut so that together they are within ``budget``; at least 1."""
    left = budget
    for place, count in enumerate(sorted(counts)):
        share = left // (len(counts) - place)
        if count > share:
            return max(1, share)
        left -= count
    return max(counts)
