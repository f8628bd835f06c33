"""The transformers engine's tokens per second at several numbers of rows, beside the plan's."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from r1_searcher.plan import engine as planned_engine
from r1_searcher.plan.architecture import Architecture
from r1_searcher.plan.work import Workload, iteration
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.types.protocols import Sampling

from . import sizes, timing
from .device import planned_device
from .figures import Figures

ROWS, PROMPT, NEW = (1, 16, 64, 256), 200, 24  # rows at once; tokens of a prompt; tokens sampled after it
_NEVER = ["this text never comes"]


def small(figures: Figures) -> None:
    """The small shape."""
    _run(figures, sizes.SMALL)


def large(figures: Figures) -> None:
    """The large shape, or the largest that fits."""
    _run(figures, sizes.LARGE)


def _run(figures: Figures, names: tuple[str, ...]) -> None:
    rows = (1, 4) if figures.machine.rehearsal else ROWS

    def needed(size: Architecture) -> float:
        params = sizes.settings(size, max_batch=rows[-1], max_total_tokens=PROMPT + NEW)
        return planned_engine.engine(size, params, 0).total

    sizes.largest_that_works(figures, names, needed, lambda size: _measure(figures, size, rows))


def _measure(figures: Figures, size: Architecture, rows: tuple[int, ...]) -> None:
    device, (prompt, new) = figures.machine.device, (80, 4) if figures.machine.rehearsal else (PROMPT, NEW)
    timing.forget(device)
    began = time.perf_counter()
    engine = TransformersEngine(sizes.new_model(size, "bfloat16", device), sizes.tokenizer(size.vocabulary))
    engine._end_ids = frozenset()  # a random model would end texts at random
    figures.note("engine made in", time.perf_counter() - began, "s", about="mostly the texts of all tokens")
    _sample(_Clock(engine, device), size, 1, prompt, 2)  # kernels are chosen in the first passes
    last = 0.0
    for count in rows:
        if 5 * last > figures.left():
            figures.note(f"sampling, {count} rows", None, "tokens/s", about="no time left")
            continue
        timing.forget(device)
        clock = _Clock(engine, device)
        try:
            last = _sample(clock, size, count, prompt, new)
        except torch.cuda.OutOfMemoryError:
            if count == rows[0]:
                raise
            figures.note(f"sampling, {count} rows", None, "tokens/s", about="out of memory")
            break
        plan = _planned(figures, size, count, prompt, new)
        figures.note(
            f"sampling, {count} rows", count * (new - 1) / clock.together, "tokens/s", planned=count * new / plan[1]
        )
        figures.note(
            f"prefill, {count} rows", count * prompt / clock.alone, "tokens/s", planned=count * prompt / plan[0]
        )
        figures.note(
            f"share of drawing, {count} rows",
            clock.drawing / (clock.together + clock.alone),
            about="logits to the CPU, drawn there",
        )
        params = sizes.settings(size, max_batch=count, max_total_tokens=prompt + new)
        figures.note(
            f"memory, {count} rows",
            timing.in_gib(timing.peak(device)),
            "GiB",
            planned=planned_engine.engine(size, params, 0).total / timing.GIB,
        )


def _planned(figures: Figures, size: Architecture, rows: int, prompt: int, new: int) -> tuple[float, float]:
    """Return the plan's seconds to prefill and to decode."""
    work = Workload(prompt_tokens=prompt, policy_tokens=new, searches=0)
    params = sizes.settings(size, max_batch=rows)
    stage = params.train.stage2.model_copy(update={"questions_an_iteration": rows, "samples_a_question": 1})
    params = params.model_copy(update={"train": params.train.model_copy(update={"stage2": stage})})
    found = iteration(size, params, work, planned_device(figures.machine)[0], stage="stage2", at_a_time=rows)
    return found.read_seconds, found.decode_seconds


class _Clock:
    """Seconds of an engine's prefill passes, of its steps together, and of drawing within both."""

    def __init__(self, engine: TransformersEngine, device: str) -> None:
        self.engine, self.device = engine, device
        self.alone = self.together = self.drawing = 0.0

    def __enter__(self) -> TransformersEngine:
        for method, total in (("_prefill_alone", "alone"), ("_step_together", "together"), ("_sample", "drawing")):
            setattr(self.engine, method, self._timed(getattr(self.engine, method), total))
        return self.engine

    def __exit__(self, *_: object) -> None:
        for method in ("_prefill_alone", "_step_together", "_sample"):
            delattr(self.engine, method)

    def _timed(self, method: Any, total: str) -> Any:
        def timed(*arguments: Any) -> Any:
            timing.wait(self.device)
            began = time.perf_counter()
            found = method(*arguments)
            timing.wait(self.device)
            setattr(self, total, getattr(self, total) + time.perf_counter() - began)
            return found

        return timed


def _sample(clock: _Clock, size: Architecture, rows: int, prompt: int, new: int) -> float:
    """Sample ``new`` tokens after each of ``rows`` different prompts; return the seconds."""
    began = time.perf_counter()
    random = np.random.default_rng(0)
    with clock as engine:
        engine.start(Sampling(1.0, 1.0, max_turn_tokens=new, max_total_tokens=prompt + new), _NEVER)
        for row in range(rows):
            engine.add(row, random.integers(0, size.vocabulary, prompt).tolist(), row)
        ended = 0
        while turns := engine.step():
            for turn in turns:
                assert len(turn.token_ids) == new, "a turn ended early"
                engine.release(turn.trajectory)
                ended += 1
    assert ended == rows
    return time.perf_counter() - began
