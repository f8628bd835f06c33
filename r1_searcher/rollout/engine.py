"""The transformers engine: a batch of trajectories, each at its own length.

A pass feeds every row's next token to the model. A row with prompt or document tokens ahead takes the next of them; any
other row samples one. Short documents are thus prefilled while other rows decode. Rows with the same prompt share one
prefill pass, and a long prompt or block is prefilled in a pass of its own. Nothing is padded, nothing is read twice,
and a finished row leaves the batch at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from r1_searcher.errors import PipelineError
from r1_searcher.rollout import token_attention
from r1_searcher.rollout.cache import Reading, RowCache
from r1_searcher.rollout.codec import Codec
from r1_searcher.rollout.finite_logprobs import check_finite_logprobs
from r1_searcher.rollout.sampling import draw, score, uniforms
from r1_searcher.rollout.stops import StopFinder, end_of_text_ids, ending
from r1_searcher.types.model_config import check_lengths, scaled
from r1_searcher.types.protocols import Sampling, Turn

# A row with at least this many tokens ahead is prefilled in a pass of its own, which reads all weights once more. Fewer
# tokens are prefilled beside the other rows, at the cost of extra passes only if no other row decodes.
PREFILL_ALONE = 64

# How far logits that are equal but for rounding may differ, relative to the largest.
_ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.03}


@dataclass
class _Row:
    trajectory: int
    ids: list[int]  # all tokens known so far
    uniform: torch.Tensor
    turn_start: int  # where the current turn's sampled tokens begin
    read: int = 0  # tokens in the cache
    logprobs: list[float] = field(default_factory=list)  # of the current turn
    waiting: bool = False  # the turn has ended: to be extended or released

    @property
    def ahead(self) -> int:
        """Known tokens that are not read yet, at least 1."""
        return len(self.ids) - self.read


class TransformersEngine:
    """``Engine`` on a transformers model; see ``r1_searcher.types.protocols``."""

    overlaps = False  # false: which rows share a pass must not depend on timing

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "transformers") -> None:
        """Raises ``PipelineError`` for a model whose attention ``token_attention`` does not support."""
        self.name = name
        self.tokenizer = tokenizer
        self.codec = Codec(tokenizer)
        self._model = model.eval()
        token_attention.use(self._model)
        self._head = model.get_output_embeddings()
        self._end_ids = end_of_text_ids(tokenizer, model.generation_config)
        self._texts = [tokenizer.decode([number]) for number in range(model.config.vocab_size)]
        self._finders: dict[tuple[str, ...], StopFinder] = {}
        self._rows: list[_Row] = []
        self._released: set[int] = set()
        self._cache: RowCache | None = None
        self.on_token: Callable[[int, int], None] | None = None  # told each trajectory's tokens as they are sampled

    @torch.inference_mode()
    def check_head(self, where: str) -> None:
        """Raise ``PipelineError`` if the model's logits are not finite, or differ from those that this engine computes
        from its last hidden state. Reads a few tokens."""
        ids = torch.arange(min(4, self._model.config.vocab_size), device=self._model.device)[None]
        theirs = self._model(input_ids=ids, use_cache=False).logits.float()
        hidden = self._model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        ours = scaled(self._head(hidden).float(), self._model.config)
        check_finite_logprobs(theirs.log_softmax(-1).flatten().tolist(), self.name)
        gap = float((ours - theirs).abs().max())
        if not gap <= _ROUNDING[self._model.dtype] * (1 + float(theirs.abs().max())):
            raise PipelineError(
                f"this model's logits are more than its output head applied to the last hidden state: they differ by "
                f"{gap:.2g}",
                where=where,
                fix="choose a model of another kind (docs/engines.md lists those that are supported)",
            )

    def encode(self, text: str) -> list[int]:
        return self.codec.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.codec.decode(token_ids)

    def load_state(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copy weights from memory, by the model's own parameter names."""
        own = dict(self._model.named_parameters())
        missing = own.keys() - weights.keys()
        assert not missing, f"weights lack {sorted(missing)[:3]}"
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])

    def load_weights(self, policy: Path) -> None:
        from r1_searcher.model_folders import load_model

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
        """Does nothing: the cache lives for one batch, and the weights are small beside the trainer's."""

    def wake(self) -> None:
        """Does nothing."""

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        self._sampling = sampling
        check_lengths(self._model.config, sampling.max_total_tokens)
        key = tuple(stops)
        if key not in self._finders:
            self._finders[key] = StopFinder(self._texts, key, self.decode)
        self._finder = self._finders[key]
        self._rows, self._released, self._cache = [], set(), None

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        assert self._cache is None, "trajectories are added before the first step"
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
            if ended := self._prefill_alone() or self._step_together():
                return ended
        return []

    def _drop_released(self) -> None:
        if not self._released:
            return
        kept = [place for place, row in enumerate(self._rows) if row.trajectory not in self._released]
        self._rows = [self._rows[place] for place in kept]
        self._released = set()
        if self._rows and self._cache is not None:
            self._cache.keep_rows(torch.tensor(kept, device=self._model.device))

    def _prefill_alone(self) -> list[Turn]:
        """Prefill rows with many tokens ahead, each in its own pass, and sample their next tokens."""
        alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}  # rows with the same prompt
        for place, row in enumerate(self._rows):
            if row.ahead >= PREFILL_ALONE:
                alike.setdefault((-1, tuple(row.ids)) if row.read == 0 else (place, ()), []).append(place)
        ended = []
        for places in alike.values():
            row = self._rows[places[0]]
            hidden = self._forward([row.ids[row.read :]], Reading(row.read, len(row.ids), only=places))  # (1, D)
            ended += self._sample(places, hidden.expand(len(places), -1))
        return ended

    def _step_together(self) -> list[Turn]:
        """Read as many tokens per row as the row with the fewest ahead has; sample for rows with none left."""
        number = min(row.ahead for row in self._rows)
        reading = Reading.together([row.read for row in self._rows], number, self._model.device)
        hidden = self._forward([row.ids[row.read : row.read + number] for row in self._rows], reading)  # (B, D)
        open_rows = [place for place, row in enumerate(self._rows) if row.ahead == number]
        for row in self._rows:
            row.read += number
        return self._sample(open_rows, hidden[torch.tensor(open_rows, device=hidden.device)])

    def _forward(self, ids: list[list[int]], reading: Reading) -> torch.Tensor:
        """Tokens (B, N) → last token's hidden state (B, D)."""
        if self._cache is None:
            self._cache = RowCache(self._model.config.num_hidden_layers, len(self._rows))
        self._cache.read(reading)
        found = self._model.base_model(
            input_ids=torch.tensor(ids, device=self._model.device),
            position_ids=reading.places,
            attention_mask=None,  # the model makes its own, per row: token_attention.mask
            past_key_values=self._cache,
            use_cache=True,
        )
        hidden: torch.Tensor = found.last_hidden_state[:, -1]
        return hidden

    def _sample(self, places: Sequence[int], hidden: torch.Tensor) -> list[Turn]:
        """Sample the next token of the b rows at ``places`` from their hidden states (b, D)."""
        rows = [self._rows[place] for place in places]
        logits = scaled(self._head(hidden).float(), self._model.config).cpu()  # (b, V)
        uniform = torch.stack([row.uniform[len(row.ids) - 1] for row in rows])  # (b,)
        tokens, logprobs = draw(logits, uniform, self._sampling.temperature, self._sampling.top_p)
        ended = []
        drawn = logprobs.tolist()
        check_finite_logprobs(drawn, self.name)
        for row, token, logprob in zip(rows, tokens.tolist(), drawn, strict=True):
            row.read = len(row.ids)
            row.ids.append(token)
            row.logprobs.append(logprob)
            if self.on_token is not None:
                self.on_token(row.trajectory, token)
            if (stop := self._stop(row)) is not None:
                row.waiting = True
                ended.append(Turn(row.trajectory, row.ids[row.turn_start :], row.logprobs, stop))
        return ended

    def _stop(self, row: _Row) -> str | None:
        turn_ids = row.ids[row.turn_start :]
        return ending(turn_ids, len(row.ids), end_ids=self._end_ids, finder=self._finder, sampling=self._sampling)
