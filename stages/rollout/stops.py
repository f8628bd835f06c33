"""Finding stop strings in sampled tokens without decoding every token.

A tag may be one token or several, and its last token may hold text beyond the tag. Only a token
that could be the last of a stop string is looked at closer: its row's last tokens are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
