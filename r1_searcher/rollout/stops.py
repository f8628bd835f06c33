"""When a turn ends, token by token: one rule for every engine that samples tokens.

Stop strings are found without decoding every token. A tag may span several tokens, and its last token may hold text
beyond the tag. Only after a token that could end a stop string are the row's last tokens decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Sampling

Decode = Callable[[Sequence[int]], str]


class StopFinder:
    """Finds whether the last token of a turn completes a stop string."""

    def __init__(self, token_texts: Sequence[str], stops: Sequence[str], decode: Decode) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._window = max(map(len, stops)) + 1  # each token of a stop holds at least one character
        self.candidates = frozenset(number for number, text in enumerate(token_texts) if self._may_end(text))

    def _may_end(self, text: str) -> bool:
        return any(
            stop in text or any(stop.endswith(text[:length]) for length in range(1, len(text) + 1))
            for stop in self._stops
        )

    def find(self, turn_ids: Sequence[int]) -> str | None:
        """Return the stop string that the turn's last token completes, or None."""
        if turn_ids[-1] not in self.candidates:
            return None
        text = self._decode(turn_ids[-self._window :])
        before = self._decode(turn_ids[-self._window : -1])
        for stop in self._stops:
            if text.count(stop) > before.count(stop):
                return stop
        return None


def ending(
    turn_ids: Sequence[int], length: int, *, end_ids: frozenset[int], finder: StopFinder, sampling: Sampling
) -> str | None:
    """Return how the turn's last token ends it, as in ``Turn.stop``; None if the turn continues.

    ``length``: tokens of the whole trajectory, including the turn's.
    """
    if turn_ids[-1] in end_ids:
        return grammar.FINISH_END_OF_TEXT
    if (stop := finder.find(turn_ids)) is not None:
        return stop
    if length >= sampling.max_total_tokens:
        return grammar.FINISH_LENGTH_LIMIT
    if len(turn_ids) >= sampling.max_turn_tokens:
        return grammar.FINISH_TURN_LIMIT
    return None


def end_of_text_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Return the ids that end a text: the tokenizer's and those of the model's generation config."""
    found: set[int | None] = set()
    for value in (tokenizer.eos_token_id, getattr(generation_config, "eos_token_id", None)):
        found |= set(value) if isinstance(value, list) else {value}
    return frozenset(number for number in found if number is not None)
