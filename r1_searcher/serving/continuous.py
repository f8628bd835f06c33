"""The transformers engine with requests that come and go while it runs, each sampled in its own way.

Every pass reads something of every row that does not wait: the next token of a row that decodes, and prompts and blocks
of passages as a whole. What a row samples is what it would sample in a rollout: from its own seed and tokens. Only the
pass is another one, so that logits may differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.rollout.stops import StopFinder
from r1_searcher.serving import packed
from r1_searcher.types.protocols import Sampling, Turn

# Tokens of a pass at most, or one per row: a long prompt is prefilled in several passes, and other rows decode in each.
_PASS_TOKENS = 512


@dataclass
class _Admitted:
    """How a trajectory is sampled, and its row of the cache."""

    sampling: Sampling
    finder: StopFinder
    cache_row: int


class ContinuousEngine(TransformersEngine):
    """Rows are admitted, extended and dropped between any two tokens; a row that waits for its search delays none."""

    overlaps = True

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "transformers") -> None:
        super().__init__(model, tokenizer, name=name)
        packed.use(self._model)
        self.reset()

    @classmethod
    def of(cls, engine: TransformersEngine) -> ContinuousEngine:
        """Return an engine on the same weights; the given one is not used any more."""
        return cls(engine._model, engine.tokenizer, name=engine.name)

    def reset(self) -> None:
        """Drop all rows."""
        self._rows, self._released = [], set()
        self._admitted: dict[int, _Admitted] = {}  # of each trajectory
        self._packed = packed.PackedCache(self._model.config.num_hidden_layers)
        self._left: dict[int, list[int]] = {}  # of each free row of the cache, the tokens that it still holds

    def load_state(self, weights: Mapping[str, torch.Tensor]) -> None:
        """As in a rollout; drops all rows, whose keys are of the old weights."""
        super().load_state(weights)
        self.reset()

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        """Drop all rows; sample those that are added like this."""
        self.reset()
        super().start(sampling, stops)

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        """Add a trajectory to the running batch, in the free row of the cache that holds most of its prompt already:
        prompts begin alike."""
        taken = {one.cache_row for one in self._admitted.values()}
        free = [row for row in range(len(taken) + len(self._left) + 1) if row not in taken]
        held = [_alike(self._left.get(row, []), prompt_ids) for row in free]
        best = held.index(max(held))  # the first of equals
        self._admitted[trajectory] = _Admitted(self._sampling, self._finder, free[best])
        super().add(trajectory, prompt_ids, seed)
        self._rows[-1].read = min(held[best], len(prompt_ids) - 1)  # one is left, to sample from

    def admit(
        self, trajectory: int, prompt_ids: Sequence[int], seed: int, sampling: Sampling, stops: Sequence[str]
    ) -> None:
        """Add a trajectory that is sampled in its own way."""
        key = tuple(stops)
        if key not in self._finders:
            self._finders[key] = StopFinder(self._texts, key, self.decode)
        self._sampling, self._finder = sampling, self._finders[key]
        self.add(trajectory, prompt_ids, seed)

    def limit(self, trajectory: int, sampling: Sampling) -> None:
        """Change how a trajectory is sampled from its next token on."""
        self._admitted[trajectory].sampling = sampling

    def drop(self, trajectory: int) -> None:
        """Remove a trajectory from the batch, even within a turn."""
        self._released.add(trajectory)
        self._drop_released()

    @torch.inference_mode()
    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        self._drop_released()
        while going := [place for place, row in enumerate(self._rows) if not row.waiting]:
            if ended := self._pass(going):
                return ended
            if interrupted is not None and interrupted():
                break
        return []

    def _drop_released(self) -> None:
        for row in self._rows:
            if row.trajectory in self._released:
                self._left[self._admitted.pop(row.trajectory).cache_row] = row.ids[: row.read]
        super()._drop_released()
        if not self._rows and self._left:  # the first row is kept, for the beginning of the next prompt
            self._packed.keep_first()
            self._left = {0: self._left.get(0, [])}

    def _pass(self, places: Sequence[int]) -> list[Turn]:
        """Read tokens of these rows, and sample for those that have none left."""
        left, pieces, ids = _PASS_TOKENS - len(places), [], []
        for row in (self._rows[place] for place in places):
            more = min(row.ahead - 1, max(0, left))
            left -= more
            pieces.append(packed.RowPiece(self._admitted[row.trajectory].cache_row, row.read, row.read + 1 + more))
            ids += row.ids[row.read : row.read + 1 + more]
        packing = packed.Packing(pieces, self._model.device)
        self._packed.read(packing)
        found = self._model.base_model(
            input_ids=torch.tensor([ids], device=self._model.device),
            position_ids=packing.places[None],
            attention_mask=None,
            past_key_values=self._packed,
            use_cache=True,
            packing=packing,
        )
        open_rows = []
        for number, (place, piece) in enumerate(zip(places, pieces, strict=True)):
            self._rows[place].read = piece.end
            if self._rows[place].ahead == 0:
                open_rows.append(number)
        if not open_rows:
            return []
        hidden = found.last_hidden_state[0, packing.last[open_rows]]  # (b, D)
        return self._sample([places[number] for number in open_rows], hidden)

    def _sample(self, places: Sequence[int], hidden: torch.Tensor) -> list[Turn]:
        """Sample rows that are sampled alike together."""
        alike: dict[tuple[Sampling, int], list[int]] = {}
        for number, place in enumerate(places):
            one = self._admitted[self._rows[place].trajectory]
            alike.setdefault((one.sampling, id(one.finder)), []).append(number)
        ended = []
        for numbers in alike.values():
            one = self._admitted[self._rows[places[numbers[0]]].trajectory]
            self._sampling, self._finder = one.sampling, one.finder
            part = hidden if len(alike) == 1 else hidden[torch.tensor(numbers, device=hidden.device)]
            ended += super()._sample([places[number] for number in numbers], part)
        return ended


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
