"""One device for engine and trainer, in turns: rollout, update, new weights, and what the device holds after each."""

from __future__ import annotations

import time

import numpy as np
from engine_jobs import Job

from r1_searcher.plan import engine as planned_engine
from r1_searcher.plan import memory
from r1_searcher.plan.architecture import Architecture
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.rollout.sync import check_sync
from r1_searcher.types.protocols import Sampling, TrainingBatch

from . import sizes, timing
from .contract import ANY
from .figures import Figures

TURNS, ROWS, PROMPT, NEW = 3, 16, 200, 16


def run(figures: Figures) -> None:
    """Note seconds and memory of each turn, and the engine's gap to the trainer after it."""
    rows = 2 if figures.machine.rehearsal else ROWS

    def needed(size: Architecture) -> float:
        params = sizes.settings(size, max_batch=rows, max_total_tokens=PROMPT + NEW)
        work = sizes.WORK
        return planned_engine.engine(size, params, 0).total + memory.trainer(size, params, work).total

    sizes.largest_that_works(figures, sizes.SMALL, needed, lambda size: _take_turns(figures, size, rows))


def _take_turns(figures: Figures, size: Architecture, rows: int) -> None:
    device = figures.machine.device
    timing.forget(device)
    params = sizes.settings(size, max_batch=rows)
    engine = TransformersEngine(sizes.new_model(size, "bfloat16", device), sizes.tokenizer(size.vocabulary))
    engine._end_ids = frozenset()
    random = np.random.default_rng(0)
    chosen = [Job(random.integers(0, size.vocabulary, PROMPT).tolist(), row, []) for row in range(rows)]
    sampling = Sampling(1.0, 1.0, max_turn_tokens=NEW, max_total_tokens=PROMPT + NEW)
    after: list[float | None] = []
    with sizes.trainer(size, params, device) as trainer:
        for turn in range(TURNS):
            began = time.perf_counter()
            batch = _rolled_out(engine, chosen, sampling)
            timing.wait(device)
            sampled = time.perf_counter()
            trainer.update(batch)
            timing.wait(device)
            updated = time.perf_counter()
            engine.load_state(trainer.export_weights())
            timing.wait(device)
            loaded = time.perf_counter()
            found = trainer.logprobs(batch.token_ids, batch.policy_mask)
            gap = check_sync(engine, batch.token_ids, batch.policy_mask, found, temperature=1.0, allowed=ANY)
            after.append(timing.held(device))
            figures.note(f"gap to the trainer, turn {turn + 1}", gap.mean, about=f"largest {gap.largest:.2g}")
            figures.note(
                f"seconds, turn {turn + 1}",
                loaded - began,
                "s",
                about=f"rollout {sampled - began:.2f}, update {updated - sampled:.2f}, weights {loaded - updated:.3f}",
            )
    figures.note("memory, most", timing.in_gib(timing.peak(device)), "GiB")
    if after[-1] is not None and after[1] is not None:
        figures.note("memory gained by a turn", (after[-1] - after[1]) / 2**20, "MiB")


def _rolled_out(engine: TransformersEngine, chosen: list[Job], sampling: Sampling) -> TrainingBatch:
    engine.start(sampling, ["this text never comes"])
    for row, job in enumerate(chosen):
        engine.add(row, job.prompt, job.seed)
    ids = [list(job.prompt) for job in chosen]
    old: list[list[float]] = [[] for _ in chosen]
    while turns := engine.step():
        for turn in turns:
            ids[turn.trajectory] += turn.token_ids
            old[turn.trajectory] = turn.logprobs
            engine.release(turn.trajectory)
    masks = [[False] * PROMPT + [True] * len(row) for row in old]
    random = np.random.default_rng(1)
    return TrainingBatch(ids, masks, [random.normal(0, 1, len(row)).tolist() for row in old], old)
