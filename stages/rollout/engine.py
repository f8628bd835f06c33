"""The transformers engine: a batch of trajectories that advances column by column.

At column c every row feeds its token c to the model: a row that still has prompt or document
tokens ahead takes the next of them, any other row samples one. So documents are read into the
cache while other rows generate, nothing is padded, nothing is read twice, and a finished row leaves
the batch at once. The first columns, up to the shortest prompt, are read in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stages.contract.errors import PipelineError
from stages.contract.protocols import Sampling, Turn
from stages.rollout.columns import ColumnCache
from stages.rollout.sampling import draw, score, uniforms
from stages.rollout.stops import StopFinder, end_of_text_ids, ending


@dataclass
class _Row:
    trajectory: int
    ids: list[int]  # all tokens known so far
    uniform: torch.Tensor
    turn_start: int  # where the present turn's sampled tokens begin
    logprobs: list[float] = field(default_factory=list)  # of the present turn
    waiting: bool = False  # its turn ended: to be extended or released


class TransformersEngine:
    """``Engine`` on a transformers model; see ``stages.contract.protocols``."""

    overlaps = False  # its columns advance together

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "transformers") -> None:
        self.name = name
        self.tokenizer = tokenizer
        self._model = model.eval()
        self._end_ids = end_of_text_ids(tokenizer, model.generation_config)
        self._texts = [tokenizer.decode([number]) for number in range(model.config.vocab_size)]
        self._finders: dict[tuple[str, ...], StopFinder] = {}
        self._rows: list[_Row] = []
        self._released: set[int] = set()
        self._column = 0

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def load_state(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take weights from memory, by the names of the model's own parameters."""
        own = dict(self._model.named_parameters())
        missing = own.keys() - weights.keys()
        assert not missing, f"weights lack {sorted(missing)[:3]}"
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])

    def load_weights(self, policy: Path) -> None:
        from stages.rollout.load import load_model

        fresh = load_model(policy, dtype=str(self._model.dtype).removeprefix("torch."))
        weights, own = dict(fresh.named_parameters()), dict(self._model.named_parameters())
        wrong = [name for name in own if name in weights and weights[name].shape != own[name].shape]
        if wrong := sorted([*wrong, *(own.keys() ^ weights.keys())]):
            raise PipelineError(
                f"of another architecture: {len(wrong)} weights have no counterpart of their shape, such as {wrong[0]}",
                where=str(policy),
                fix="start a new engine for another model",
            )
        self.load_state(weights)

    @torch.inference_mode()
    def score(self, token_ids: Sequence[Sequence[int]], *, temperature: float) -> list[list[float]]:
        return [score(self._model, ids, temperature) for ids in token_ids]

    def sleep(self) -> None:
        """Nothing: its cache lives for a batch, and its weights are small beside the trainer's."""

    def wake(self) -> None:
        """Nothing."""

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        self._sampling = sampling
        key = tuple(stops)
        if key not in self._finders:
            self._finders[key] = StopFinder(self._texts, key, self.decode)
        self._finder = self._finders[key]
        self._rows, self._released, self._column = [], set(), 0
        self._cache = ColumnCache(self._model.config.num_hidden_layers)

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        assert self._column == 0, "trajectories are added before the first step"
        uniform = uniforms(seed, self._sampling.max_total_tokens)
        self._rows.append(_Row(trajectory, list(prompt_ids), uniform, len(prompt_ids)))

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        row = self._waiting_row(trajectory)
        row.ids.extend(token_ids)
        row.turn_start, row.logprobs, row.waiting = len(row.ids), [], False

    def release(self, trajectory: int) -> None:
        self._waiting_row(trajectory)
        self._released.add(trajectory)

    def _waiting_row(self, trajectory: int) -> _Row:
        row = next((row for row in self._rows if row.trajectory == trajectory), None)
        assert row is not None and row.waiting, f"trajectory {trajectory} has no ended turn"
        return row

    @torch.inference_mode()
    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        self._drop_released()
        assert not any(row.waiting for row in self._rows), "an ended turn was neither extended nor released"
        while self._rows:
            known = min(len(row.ids) for row in self._rows)  # at least one more than the columns read
            if ended := self._advance(known):
                return ended
        return []

    def _drop_released(self) -> None:
        if not self._released:
            return
        kept = [place for place, row in enumerate(self._rows) if row.trajectory not in self._released]
        self._rows = [self._rows[place] for place in kept]
        self._released = set()
        if self._rows and self._column:
            self._cache.keep_rows(torch.tensor(kept, device=self._model.device))

    def _advance(self, until: int) -> list[Turn]:
        """Read columns [self._column, until) and sample where a row has no token at ``until``."""
        ids = torch.tensor([row.ids[self._column : until] for row in self._rows], device=self._model.device)  # (B, N)
        hidden = self._model.base_model(input_ids=ids, past_key_values=self._cache, use_cache=True).last_hidden_state[
            :, -1
        ]  # (B, D)
        self._column = until
        open_rows = [place for place, row in enumerate(self._rows) if len(row.ids) == until]
        if not open_rows:
            return []
        rows = [self._rows[place] for place in open_rows]
        logits = self._model.lm_head(hidden[torch.tensor(open_rows, device=hidden.device)]).float().cpu()  # (b, V)
        uniform = torch.stack([row.uniform[until - 1] for row in rows])  # (b,)
        tokens, logprobs = draw(logits, uniform, self._sampling.temperature, self._sampling.top_p)
        ended = []
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.ids.append(token)
            row.logprobs.append(logprob)
            if (stop := self._stop(row)) is not None:
                row.waiting = True
                ended.append(Turn(row.trajectory, row.ids[row.turn_start :], row.logprobs, stop))
        return ended

    def _stop(self, row: _Row) -> str | None:
        turn_ids = row.ids[row.turn_start :]
        return ending(turn_ids, len(row.ids), end_ids=self._end_ids, finder=self._finder, sampling=self._sampling)
