"""The vLLM engine: every trajectory on its own, with continuous batching and a prefix cache.

Each turn is a request whose prompt is all tokens of the trajectory so far; the prefix cache already holds them, except
for the last block and what was inserted. vLLM sees only tokens: no tokenizer, no text, no stop strings. Its tokens are
checked here one by one, by the same rule as in the transformers engine (``r1_searcher.rollout.stops.ending``), and the
request is ended at the token that ends the turn, so that both engines end turns alike. What a worker process on a GPU
has sampled beyond that token is dropped.

A turn's draws come from a generator seeded by the trajectory's seed and the turn's position. They do not depend on the
batch; the logits' last bits do, as far as kernels round by batch size (VLLM_BATCH_INVARIANT=1 prevents that on the GPUs
that vLLM supports).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.model_folders import load_config
from r1_searcher.rollout.codec import Codec
from r1_searcher.rollout.finite_logprobs import check_finite_logprobs
from r1_searcher.rollout.stops import StopFinder, end_of_text_ids, ending
from r1_searcher.rollout.untied import check_same, make_untied_view, shapes
from r1_searcher.rollout.vllm_start import start_core
from r1_searcher.types.protocols import Sampling, Turn


@dataclass
class _Row:
    trajectory: int
    ids: list[int]  # all tokens so far
    seed: int
    turn_start: int = 0
    logprobs: list[float] = field(default_factory=list)  # of the current turn
    request: str = ""  # empty: the turn has ended and is to be extended or released


class VllmEngine:
    """``Engine`` on vLLM; see ``r1_searcher.types.protocols``."""

    overlaps = True

    def __init__(self, policy: Path, tokenizer: Any, rollout: params.Rollout, *, tensor_parallel: int = 1) -> None:
        self.name = "vllm"
        self.tokenizer = tokenizer
        self.codec = Codec(tokenizer)
        self._views = tempfile.TemporaryDirectory(prefix="policy-")
        self._view = make_untied_view(policy, Path(self._views.name) / "0")
        self._shapes = shapes(self._view)
        self._sleeps = rollout.vllm.sleep
        self._core = start_core(self._view, rollout, tensor_parallel=tensor_parallel)
        self._room = int(self._core.model_config.max_model_len)
        self._temperature = 1.0
        self._end_ids = end_of_text_ids(tokenizer, _generation_config(self._view))
        vocabulary = load_config(self._view).vocab_size
        self._texts = [tokenizer.decode([number]) for number in range(vocabulary)]
        self._finders: dict[tuple[str, ...], StopFinder] = {}
        self._rows: dict[int, _Row] = {}
        self._running: dict[str, _Row] = {}
        self._requests = 0

    def encode(self, text: str) -> list[int]:
        return self.codec.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.codec.decode(token_ids)

    # --- sampling

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        if sampling.max_total_tokens > self._room:
            raise PipelineError(
                f"the engine was started for trajectories of {self._room} tokens at most",
                where=f"rollout.max_total_tokens = {sampling.max_total_tokens}",
                fix="start a new engine",
            )
        if self._running:
            self._core.abort_request(list(self._running))
        self._sampling = sampling
        self._set_temperature(sampling.temperature)
        key = tuple(stops)
        if key not in self._finders:
            self._finders[key] = StopFinder(self._texts, key, self.decode)
        self._finder = self._finders[key]
        self._rows, self._running = {}, {}

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        assert trajectory not in self._rows, f"trajectory {trajectory} already exists"
        self._rows[trajectory] = row = _Row(trajectory, list(prompt_ids), seed)
        self._request_turn(row)

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        row = self._waiting_row(trajectory)
        row.ids.extend(token_ids)
        self._request_turn(row)

    def release(self, trajectory: int) -> None:
        del self._rows[self._waiting_row(trajectory).trajectory]

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        while self._running:
            outputs = self._core.step()
            ended = [turn for output in outputs if (turn := self._read(output)) is not None]
            if ended or (interrupted is not None and interrupted()):
                return ended
        return []

    def _waiting_row(self, trajectory: int) -> _Row:
        row = self._rows.get(trajectory)
        assert row is not None and not row.request, f"trajectory {trajectory} has no ended turn"
        return row

    def _request_turn(self, row: _Row) -> None:
        """Start a turn: one request, with all tokens so far as its prompt."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = self._sampling
        room = sampling.max_total_tokens - len(row.ids)
        assert room > 0, f"trajectory {row.trajectory} has no room for a token"
        wanted = SamplingParams(
            temperature=1.0 if sampling.temperature else 0.0,  # r1_searcher.rollout.vllm_worker applies the rest
            top_p=sampling.top_p if sampling.temperature else 1.0,
            seed=turn_seed(row.seed, len(row.ids)),
            max_tokens=min(sampling.max_turn_tokens, room),
            stop_token_ids=sorted(self._end_ids),
            ignore_eos=True,
            logprobs=0,  # only the sampled token's
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._requests += 1
        row.turn_start, row.logprobs, row.request = len(row.ids), [], str(self._requests)
        self._running[row.request] = row
        self._core.add_request(row.request, {"prompt_token_ids": list(row.ids)}, wanted)

    def _read(self, output: Any) -> Turn | None:
        """Record a request's new tokens; return the turn if one of them ends it."""
        row = self._running.get(output.request_id)
        if row is None:
            return None
        (new,) = output.outputs
        for token, values in zip(new.token_ids, new.logprobs, strict=True):
            row.ids.append(token)
            row.logprobs.append(values[token].logprob)
            if (stop := self._stop(row)) is not None:
                if not output.finished:
                    self._core.abort_request([row.request])
                del self._running[row.request]
                row.request = ""
                check_finite_logprobs(row.logprobs, self.name)
                return Turn(row.trajectory, row.ids[row.turn_start :], row.logprobs, stop)
        assert not output.finished, f"vLLM ended a turn by itself: {new.finish_reason} ({new.stop_reason})"
        return None

    def _stop(self, row: _Row) -> str | None:
        turn_ids = row.ids[row.turn_start :]
        return ending(turn_ids, len(row.ids), end_ids=self._end_ids, finder=self._finder, sampling=self._sampling)

    # --- log-probabilities of given tokens

    def score(self, token_ids: Sequence[Sequence[int]], *, temperature: float) -> list[list[float]]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        assert not self._running, "tokens are scored between batches"
        if (longest := max(map(len, token_ids), default=0)) >= self._room:
            raise PipelineError(f"a sequence of {longest} tokens cannot be scored: fewer than {self._room} can be")
        self._set_temperature(temperature)
        wanted = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        places = {}
        for place, ids in enumerate(token_ids):
            self._requests += 1
            places[str(self._requests)] = place
            self._core.add_request(str(self._requests), {"prompt_token_ids": list(ids)}, wanted)
        found: list[list[float]] = [[] for _ in token_ids]
        while self._core.has_unfinished_requests():
            for output in self._core.step():
                place = places[output.request_id]
                ids = token_ids[place]
                told = zip(ids[1:], output.prompt_logprobs[1:], strict=True)
                found[place] = [0.0, *(values[token].logprob for token, values in told)]
        return found

    def _set_temperature(self, temperature: float) -> None:
        wanted = temperature or 1.0
        if wanted != self._temperature:
            self._core.collective_rpc("temper_logits", args=(wanted,))
            self._temperature = wanted

    # --- weights and memory

    def load_weights(self, policy: Path) -> None:
        """As ``Engine.load_weights``. Clears what was cached for the old weights."""
        assert not self._running, "weights are loaded between batches"
        old = self._view
        view = make_untied_view(policy, Path(self._views.name) / str(int(old.name) + 1))
        check_same(shapes(view), self._shapes, where=str(policy))
        self._core.collective_rpc("reload_weights", kwargs={"weights_path": str(view)})
        forgotten = self._core.reset_prefix_cache(reset_running_requests=True)
        assert forgotten, "the cache still holds keys of the old weights"
        self._view = view
        if old.name != "0":  # vLLM's config still refers to the first
            _remove(old)

    def sleep(self) -> None:
        """Move weights to main memory and drop the cache, if ``rollout.vllm.sleep`` is set and there is a GPU. vLLM
        cannot sleep on CPUs: nothing is released there."""
        assert not self._running, "an engine sleeps between batches"
        if self._can_sleep() and not self._core.is_sleeping():
            self._core.sleep(level=1)

    def wake(self) -> None:
        """Move weights back from main memory; the cache is empty."""
        if self._can_sleep() and self._core.is_sleeping():
            self._core.wake_up()

    def _can_sleep(self) -> bool:
        import torch

        return self._sleeps and torch.cuda.is_available()


def turn_seed(seed: int, position: int) -> int:
    """Return a 63-bit seed for the turn that begins at ``position``, from its trajectory's seed."""
    words = np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _generation_config(view: Path) -> Any:
    """Return the folder's generation config, else the one that transformers derives from its model config."""
    from transformers import GenerationConfig

    if (view / "generation_config.json").exists():
        return GenerationConfig.from_pretrained(view)
    return GenerationConfig.from_model_config(load_config(view))


def _remove(view: Path) -> None:
    import shutil

    shutil.rmtree(view, ignore_errors=True)
