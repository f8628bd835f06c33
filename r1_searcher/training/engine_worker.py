"""A rollout engine and its retriever, opened once and kept warm. Independent of processes, keys and the store."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import cast

from r1_searcher.files.artefacts import write_json, write_table
from r1_searcher.params import Params
from r1_searcher.progress import Told, nobody
from r1_searcher.training import handover
from r1_searcher.training.workers import Job, Policy, WorkerSettings
from r1_searcher.types.protocols import Engine, InMemoryEngine, Retriever

INDEX = Path("data/index")
_CORPUS = Path("data/corpus")


class EngineWorker:
    """``Engines`` with one engine, in this process."""

    def __init__(self, settings: WorkerSettings, told: Told = nobody) -> None:
        """Loads nothing yet. ``told``: called with how many trajectories have ended, and the total."""
        self.settings, self.params = settings, settings.params
        self._told = told
        self._engine: Engine | None = None
        self._at: str | None = None  # key of the weights that it holds
        self._asleep = False

    @functools.cached_property
    def retriever(self) -> Retriever:
        """The opened retriever."""
        from r1_searcher.retrieval import open_retriever

        return open_retriever(self.params, index=INDEX, corpus=_CORPUS, fingerprint=self.settings.retriever)

    def roll_out(self, policy: Policy, job: Job, draft: Path) -> None:
        """See ``workers.Engines``."""
        from r1_searcher.rollout import roll_out
        from r1_searcher.rollout.outages import check_lost

        engine, retriever = self._engine_with(policy), self.retriever
        began = time.monotonic()  # after a first engine has been loaded
        table, timings = roll_out(
            engine,
            retriever,
            job.questions,
            self.params.rollout,
            samples=job.samples,
            seed=job.seed,
            greedy=job.greedy,
            told=self._told,
        )
        seconds = time.monotonic() - began
        if job.max_error_share is not None:
            check_lost(table, job.max_error_share)  # before storing, or the next run would reuse it
        write_table(draft / "rollouts.parquet", table, {**job.metadata, "engine": engine.name})
        write_json(draft / "timings.json", {**timings, "seconds": seconds})

    def sleep(self) -> None:
        """See ``workers.Engines``."""
        if self._engine is not None and not self._asleep:
            self._engine.sleep()
            self._asleep = True

    def _engine_with(self, policy: Policy) -> Engine:
        """Return the engine, awake, with the weights of ``policy``."""
        if self._engine is None:
            from r1_searcher.rollout import load_engine

            set_threads(self.params)
            place, gpus = policy.folder or self.settings.start, self.params.hardware.tensor_parallel
            fresh = load_engine(place, self.params.rollout, tensor_parallel=gpus)
            if policy.folder is not None:
                self._check(fresh, policy)  # a fresh engine does not report which weights it loaded
                self._at = policy.key
            self._engine = fresh
        engine = self._engine
        if self._asleep:
            engine.wake()
            self._asleep, self._at = False, None  # the engine may have dropped its weights
        if self._at != policy.key:
            self._at = None  # after a failure the weights may be incomplete
            if policy.weights is not None:
                cast(InMemoryEngine, engine).load_state(policy.weights())
            else:
                assert policy.folder is not None, "weights are handed over in memory or as a folder"
                engine.load_weights(policy.folder)
                self._check(engine, policy)
            self._at = policy.key
        return self._engine

    def _check(self, engine: Engine, policy: Policy) -> None:
        if policy.probe is not None:
            handover.check(engine, policy.probe, self.params)


def set_threads(params: Params) -> None:
    """Set torch's threads of this process: another number rounds differently."""
    import torch

    torch.set_num_threads(params.threads)
