"""The transformers engine with requests that come and go while it runs, each sampled in its own way.

What a row samples is what it would sample in a rollout: from its own seed and tokens. Only the batch is another one, so
that logits may differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from r1_searcher.rollout.cache import Reading
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.rollout.stops import StopFinder
from r1_searcher.types.protocols import Sampling, Turn

# A row with at least this many tokens ahead is prefilled alone. Lower than in a rollout: beside decoding rows a prompt
# advances by one token a pass, and its reader waits for the first word.
_PREFILL_ALONE = 16


class ContinuousEngine(TransformersEngine):
    """Rows are admitted, extended and dropped between any two tokens; a row that waits for its search delays none."""

    overlaps = True

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "transformers") -> None:
        super().__init__(model, tokenizer, name=name)
        self._chosen: dict[int, tuple[Sampling, StopFinder]] = {}  # of each trajectory

    @classmethod
    def of(cls, engine: TransformersEngine) -> ContinuousEngine:
        """Return an engine on the same weights; the given one is not used any more."""
        return cls(engine._model, engine.tokenizer, name=engine.name)

    def reset(self) -> None:
        """Drop all rows."""
        self._rows, self._released, self._cache, self._chosen = [], set(), None, {}

    def admit(
        self, trajectory: int, prompt_ids: Sequence[int], seed: int, sampling: Sampling, stops: Sequence[str]
    ) -> None:
        """Add a trajectory to the running batch."""
        key = tuple(stops)
        if key not in self._finders:
            self._finders[key] = StopFinder(self._texts, key, self.decode)
        self._chosen[trajectory] = (sampling, self._finders[key])
        self._sampling = sampling
        running, self._cache = self._cache, None  # what a rollout may not do
        self.add(trajectory, prompt_ids, seed)
        self._cache = running
        for layer in [] if running is None else running.layers:
            layer.rows += 1
            if layer.is_initialized:
                layer.keys, layer.values = _with_row(layer.keys), _with_row(layer.values)

    def limit(self, trajectory: int, sampling: Sampling) -> None:
        """Change how a trajectory is sampled from its next token on."""
        self._chosen[trajectory] = (sampling, self._chosen[trajectory][1])

    def drop(self, trajectory: int) -> None:
        """Remove a trajectory from the batch, even within a turn."""
        self._released.add(trajectory)

    @torch.inference_mode()
    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        self._drop_released()
        while not all(row.waiting for row in self._rows):
            if ended := self._prefill_alone() or self._step_together():
                return ended
            if interrupted is not None and interrupted():
                break
        return []

    def _drop_released(self) -> None:
        for trajectory in self._released:
            self._chosen.pop(trajectory, None)
        super()._drop_released()
        if not self._rows:
            self._cache = None

    def _prefill_alone(self) -> list[Turn]:
        ended = []
        for place, row in enumerate(self._rows):
            if not row.waiting and row.ahead >= _PREFILL_ALONE:
                reading = Reading(row.read, len(row.ids), only=[place])
                ended += self._sample([place], self._forward([row.ids[row.read :]], reading))
        return ended

    def _step_together(self) -> list[Turn]:
        """As in a rollout. A row that waits takes part, because the batch is one tensor, and nothing of it counts: its
        place in the cache is written anew."""
        number = min(row.ahead for row in self._rows)
        going = [place for place, row in enumerate(self._rows) if not row.waiting]
        if not going:
            return []
        reading = Reading.together([row.read for row in self._rows], number, self._model.device)
        hidden = self._forward([row.ids[row.read : row.read + number] for row in self._rows], reading)
        drawn = [place for place in going if self._rows[place].ahead == number]
        for place in going:
            self._rows[place].read += number
        return self._sample(drawn, hidden[torch.tensor(drawn, dtype=torch.long, device=hidden.device)])

    def _sample(self, places: Sequence[int], hidden: torch.Tensor) -> list[Turn]:
        """Sample rows that are sampled alike together."""
        alike: dict[tuple[Sampling, int], list[int]] = {}
        for number, place in enumerate(places):
            sampling, finder = self._chosen[self._rows[place].trajectory]
            alike.setdefault((sampling, id(finder)), []).append(number)
        ended = []
        for numbers in alike.values():
            self._sampling, self._finder = self._chosen[self._rows[places[numbers[0]]].trajectory]
            part = hidden if len(alike) == 1 else hidden[torch.tensor(numbers, device=hidden.device)]
            ended += super()._sample([places[number] for number in numbers], part)
        return ended


def _with_row(tensor: torch.Tensor) -> torch.Tensor:
    """Return a cache (B, heads, tokens, D) with one more row, of zeros: masked values must be finite."""
    return torch.cat([tensor, tensor.new_zeros(1, *tensor.shape[1:])])
