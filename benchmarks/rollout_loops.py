"""Four ways to make the same trajectories: our loop on both engines, and a turn-synchronous loop on both.

The turn-synchronous loop is the usual one: all trajectories generate until all have ended their turn; one search call
for all; then the whole text of each unfinished one is tokenised and prefilled again. Turns end at the workload's
lengths in all loops, which still look for stop strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rollout_work import Search, Work

from r1_searcher import params
from r1_searcher.rollout import load_engine, turns
from r1_searcher.rollout.turn_handlers import Answered
from r1_searcher.tools.protocol import SEARCH, Call, ToolResult
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Engine, Passage, Sampling, Turn

Text = str


class Planned:
    """``turns.Finder`` and ``turns.TurnHandler`` of one batch of workloads on one of our engines."""

    def __init__(self, engine: Engine, works: Sequence[Work], search: Search) -> None:
        self.engine, self.works, self.search = engine, works, search
        self.turn = [0] * len(works)
        self.tokens = 0

    def find(self, calls: Sequence[Call]) -> list[ToolResult]:
        self.search.wait()
        return [[Passage("", "", call.request, 0.0)] for call in calls]

    def record(self, call: Call, found: ToolResult) -> Answered:
        return Answered({}, call.request)  # the documents were requested

    def take(self, turn: Turn) -> Call | None:
        work, number = self.works[turn.trajectory], self.turn[turn.trajectory]
        assert len(turn.token_ids) == work.turns[number], "the turn is not as long as planned"
        self.tokens += len(turn.token_ids)
        self.engine.decode(turn.token_ids)
        if number == len(work.documents):
            self.engine.release(turn.trajectory)
            return None
        return Call(SEARCH, work.documents[number])

    def insert(self, trajectory: int, answered: Answered) -> None:
        assert answered.block is not None
        self.turn[trajectory] += 1
        self.engine.extend(trajectory, self.engine.encode(answered.block))


def planned_engine(policy: Path, rollout: params.Rollout) -> Engine:
    """One of our engines, whose turns end where the workload says; it still looks for stops at every token."""
    engine: Any = load_engine(policy, rollout)
    engine._end_ids = frozenset()
    looked_for = engine._stop

    def stop(row: Any) -> str | None:
        looked_for(row)
        booked = engine.planned
        wanted = booked.works[row.trajectory].turns[booked.turn[row.trajectory]]
        return grammar.FINISH_TURN_LIMIT if len(row.ids) - row.turn_start == wanted else None

    engine._stop = stop
    found: Engine = engine
    return found


def ours(engine: Any, works: Sequence[Work], sampling: Sampling, search: Search) -> int:
    """Run our loop; returns the number of policy tokens."""
    engine.planned = booked = Planned(engine, works, search)
    engine.start(sampling, grammar.STOPS)
    for number, work in enumerate(works):
        engine.add(number, engine.encode(work.prompt), number)
    turns.run(engine, booked, booked)
    return booked.tokens


def turn_by_turn(generate: Any, works: Sequence[Work], search: Search) -> int:
    """Run the turn-synchronous loop. ``generate``: texts and lengths in, texts out."""
    texts, tokens = [work.prompt for work in works], 0
    running, turn = list(range(len(works))), 0
    while running:
        lengths = [works[number].turns[turn] for number in running]
        written = generate([texts[number] for number in running], lengths)
        tokens += sum(lengths)
        for number, text in zip(running, written, strict=True):
            texts[number] += text
        running = [number for number in running if turn < len(works[number].documents)]
        if running:
            search.wait()
        for number in running:
            texts[number] += works[number].documents[turn]
        turn += 1
    return tokens


class VllmTexts:
    """Run vLLM as it is usually called: texts in, stop strings, texts out."""

    def __init__(self, policy: Path, rollout: params.Rollout, *, prefix_cache: bool) -> None:
        from vllm import LLM

        settings = rollout.vllm
        self.temperature = rollout.temperature
        self.llm = LLM(
            model=str(policy),
            dtype=rollout.dtype,
            max_model_len=rollout.max_total_tokens,
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=max(settings.max_num_batched_tokens, rollout.max_total_tokens),
            enable_prefix_caching=prefix_cache,
            enforce_eager=settings.enforce_eager,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            kv_cache_memory_bytes=int(settings.cpu_cache_gb * 2**30),
            disable_log_stats=True,
        )

    def __call__(self, texts: Sequence[Text], lengths: Sequence[int]) -> list[Text]:
        from vllm import SamplingParams

        wanted = [
            SamplingParams(
                temperature=self.temperature,
                max_tokens=length,
                min_tokens=length,
                ignore_eos=True,
                stop=list(grammar.STOPS),
                include_stop_str_in_output=True,
            )
            for length in lengths
        ]
        return [made.outputs[0].text for made in self.llm.generate(list(texts), wanted, use_tqdm=False)]


class TransformersTexts:
    """Run ``generate`` of transformers: a padded batch that runs until its last row has ended."""

    def __init__(self, policy: Path, rollout: params.Rollout, *, our_attention: bool) -> None:
        import torch

        from r1_searcher.model_folders import load_model, load_tokenizer
        from r1_searcher.rollout import token_attention

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_model(policy, dtype=rollout.dtype).to(device)
        if our_attention:
            token_attention.use(self.model)
        self.model.generation_config.eos_token_id = None
        self.tokenizer = load_tokenizer(policy)
        self.tokenizer.padding_side = "left"
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.temperature, self.batch = rollout.temperature, rollout.max_batch

    def __call__(self, texts: Sequence[Text], lengths: Sequence[int]) -> list[Text]:
        return [text for part in self._batches(texts, lengths) for text in self._generate(*part)]

    def _batches(self, texts: Sequence[Text], lengths: Sequence[int]) -> Iterator[tuple[Sequence[Text], Sequence[int]]]:
        for first in range(0, len(texts), self.batch):
            yield texts[first : first + self.batch], lengths[first : first + self.batch]

    def _generate(self, texts: Sequence[Text], lengths: Sequence[int]) -> list[Text]:
        import torch

        given = self.tokenizer(list(texts), return_tensors="pt", padding=True, add_special_tokens=False)
        given = given.to(self.model.device)
        width = given["input_ids"].shape[1]
        limits = torch.tensor(lengths, device=self.model.device)

        def ended(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            found: torch.Tensor = ids.shape[1] - width >= limits
            return found

        with torch.inference_mode():
            made = self.model.generate(
                **given,
                do_sample=True,
                temperature=self.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max(lengths),
                stopping_criteria=[ended],
                stop_strings=list(grammar.STOPS),
                tokenizer=self.tokenizer,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return [
            self.tokenizer.decode(row[width : width + length], skip_special_tokens=True)
            for row, length in zip(made, lengths, strict=True)
        ]
