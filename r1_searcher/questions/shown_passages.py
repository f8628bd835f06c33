"""What a policy sees of passages: they are cut to ``rollout.max_passage_tokens`` and ``max_documents_tokens``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from r1_searcher import params
from r1_searcher.types.protocols import Passage

_MARGIN = 8  # tokens by which a passage may grow in its line of the block
_QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def whole_texts(passages: Sequence[Passage], rollout: params.Rollout) -> list[str]:
    """Return what would be shown of passages without cutting."""
    return [one.text if rollout.passages == "text" else f"{one.title}: {one.text}" for one in passages]


class ShownPassages:
    """Cuts a search's passages as a rollout of the policy in the folder ``policy`` does.

    The folder's tokenizer.json counts tokens; the policy's whole tokenizer is loaded only if something may be cut.
    """

    def __init__(self, policy: Path, rollout: params.Rollout) -> None:
        self._policy, self._rollout = policy, rollout
        self._tokens: dict[str, int] = {}

    def texts(self, passages: Sequence[Passage]) -> list[str]:
        """Return the text that is shown of each passage of one search."""
        whole = whole_texts(passages, self._rollout)
        counts = [self._count(text) + _MARGIN for text in whole]
        budget = self._rollout.max_documents_tokens
        if max(counts, default=0) <= self._rollout.max_passage_tokens and (not budget or sum(counts) <= budget):
            return whole
        return list(self._blocks.texts(passages))

    def whole(self, passages: Sequence[Passage]) -> list[str]:
        """Return the text of each passage before it is cut."""
        return whole_texts(passages, self._rollout)

    def lengths(self) -> dict[str, Any]:
        """Return the number of passages so far, how many have more than ``max_passage_tokens`` tokens, and quantiles of
        their tokens."""
        counts = np.sort(np.array(list(self._tokens.values()), dtype=np.int64))
        limit = self._rollout.max_passage_tokens
        found: dict[str, Any] = {"num_passages": len(counts), "num_cut": int((counts > limit).sum())}
        if len(counts):
            places = {name: min(len(counts) - 1, int(share * len(counts))) for name, share in _QUANTILES.items()}
            found["tokens"] = {name: int(counts[place]) for name, place in places.items()}
        return found

    def _count(self, text: str) -> int:
        if text not in self._tokens:
            self._tokens[text] = len(self._library.encode(text, add_special_tokens=False))
        return self._tokens[text]

    @cached_property
    def _library(self) -> Any:
        file = self._policy / "tokenizer.json"
        if not file.is_file():
            return self._engine.tokenizer
        import tokenizers

        library = tokenizers.Tokenizer.from_file(str(file))
        library.no_truncation()
        library.no_padding()
        return library

    @cached_property
    def _engine(self) -> Any:
        return _TokenizerAlone(self._policy)

    @cached_property
    def _blocks(self) -> Any:
        from r1_searcher.rollout.blocks import Blocks

        return Blocks(self._engine, self._rollout)


class _TokenizerAlone:
    """As much of an engine as cutting passages needs."""

    def __init__(self, policy: Path) -> None:
        from r1_searcher.model_folders import load_tokenizer
        from r1_searcher.rollout.codec import Codec

        self.tokenizer = load_tokenizer(policy)
        self.codec = Codec(self.tokenizer)
        self.encode, self.decode = self.codec.encode, self.codec.decode
