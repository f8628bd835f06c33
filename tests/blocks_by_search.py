"""``r1_searcher.rollout.blocks`` in the plain way, as a reference: one encoding per length tried."""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.documents import CHAT_TOKENS, FORBIDDEN_TEXTS, cut, neutralise, special_tokens
from r1_searcher.types.protocols import Engine, Passage

_CHARACTERS_A_TOKEN = 16  # at first: of a long passage only as much is encoded as may be shown


class BlocksBySearch:
    """The plain counterpart of ``Blocks``."""

    def __init__(self, engine: Engine, rollout: params.Rollout, tags: Sequence[str] = ()) -> None:
        assert not tags, "search alone"
        self._engine, self._rollout = engine, rollout
        special = special_tokens(getattr(engine, "tokenizer", None))
        self._special = (*CHAT_TOKENS, *special)
        self._texts = (*FORBIDDEN_TEXTS, *special)
        single = [ids[0] for ids in map(engine.encode, grammar.TAGS) if len(ids) == 1]
        self._ids = frozenset([*special.values(), *single])
        self._empty = len(engine.encode("(1)\n"))
        self._known: dict[str, str] = {}

    def render(self, passages: Sequence[Passage]) -> str:
        """Return the block of a search's passages."""
        return grammar.render_documents(self.texts(passages))

    def texts(self, passages: Sequence[Passage]) -> list[str]:
        """Return the block of a search's passages, best first.

        Each is cut at ``max_passage_tokens``. If all of them together exceed ``max_documents_tokens``, the longest are
        cut to equal lengths, so that none is left out. A passage's tokens are those that it adds to its line.
        """
        texts = [self._shown(passage) for passage in passages]
        budget = self._rollout.max_documents_tokens
        if budget and texts:
            counts = [self.count(text) for text in texts]
            share = _share(counts, budget)
            texts = [self.fit(text, share) if n > share else text for text, n in zip(texts, counts, strict=True)]
        return texts

    def _shown(self, passage: Passage) -> str:
        whole = passage.text if self._rollout.passages == "text" else f"{passage.title}: {passage.text}"
        if whole not in self._known:
            self._known[whole] = self._safe(whole)
        return self._known[whole]

    def _safe(self, whole: str) -> str:
        """Return the text neutralised, cut, and tokenised as plain text."""
        for strict in (False, True):
            text = self.fit(neutralise(whole, self._special, strict=strict), self._rollout.max_passage_tokens)
            ids = self._engine.encode(_line(text))
            if self._ids.isdisjoint(ids):
                read = self._engine.decode(ids)
                if not any(one in read for one in self._texts):
                    return text
        raise PipelineError(
            "this policy's tokenizer makes special tokens of plain text, so that no passage is safe from it",
            fix="choose a policy with another tokenizer",
        )

    def count(self, text: str) -> int:
        """Count the tokens that a passage adds to its line of the block, including the space before it."""
        return len(self._engine.encode(_line(text))) - self._empty

    def fit(self, text: str, limit: int) -> str:
        """Return the longest beginning of a neutralised text that has at most ``limit`` tokens."""
        length = _CHARACTERS_A_TOKEN * limit
        while length < len(text) and self.count(cut(text, length)) <= limit:
            length *= 2
        text = cut(text, length) if length < len(text) else text
        if self.count(text) <= limit:
            return text
        low, high = 0, len(text)  # at `low` it fits, at `high` it does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.count(cut(text, middle)) <= limit else (low, middle)
        return cut(text, low)


def _line(text: str) -> str:
    return f"(1) {text}\n"


def _share(counts: Sequence[int], budget: int) -> int:
    """Return the largest length, at least 1, to which all must be cut to stay within ``budget`` together."""
    left = budget
    for place, count in enumerate(sorted(counts)):
        share = left // (len(counts) - place)
        if count > share:
            return max(1, share)
        left -= count
    return max(counts)
