"""How a turn ends, token by token: one rule for every engine that samples tokens.

Stop strings are found without decoding every token. A tag may be one token or several, and its last token may hold
text beyond the tag. Only a token that could be the last of a stop string is looked at closer: its row's last tokens
are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Sampling

Decode = Callable[[Sequence[int]], str]


class StopFinder:
    """Tells whether the last of a turn's tokens completes a stop string."""

    def __init__(self, token_texts: Sequence[str], stops: Sequence[str], decode: Decode) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._window = max(map(len, stops)) + 1  # a stop's tokens hold at least a character each
        self.candidates = frozenset(number for number, text in enumerate(token_texts) if self._may_end(text))

    def _may_end(self, text: str) -> bool:
        return any(
            stop in text or any(stop.endswith(text[:length]) for length in range(1, len(text) + 1))
            for stop in self._stops
        )

    def find(self, turn_ids: Sequence[int]) -> str | None:
        """The stop string that the last token of the turn completed, or None."""
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
    """How the last of a turn's tokens ended it, as in ``Turn.stop``; None where it goes on.

    ``length``: tokens of the whole trajectory, those of the turn included.
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
    """The tokens that end a text: the tokenizer's, and those that the model's generation config names."""
    found: set[int | None] = set()
    for value in (tokenizer.eos_token_id, getattr(generation_config, "eos_token_id", None)):
        found |= set(value) if isinstance(value, list) else {value}
    return frozenset(number for number in found if number is not None)
