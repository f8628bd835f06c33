"""Engine and trainer in this process, without processes of their own: the way on a laptop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from r1_searcher.progress import Told, nobody
from r1_searcher.training.engine_worker import EngineWorker, set_threads
from r1_searcher.training.trainer_worker import TrainerWorker
from r1_searcher.training.workers import WorkerSettings


class InProcessWorkers:
    """One process holds engine and trainer; an engine that can takes weights from the trainer's memory."""

    inside = True
    reference = None

    def __init__(self, settings: WorkerSettings, told: Told = nobody) -> None:
        """``told``: called with how many trajectories of a rollout have ended, and the total."""
        self.settings = settings
        self.engines = EngineWorker(settings, told)
        self.trainer = trainer = TrainerWorker(settings)
        in_memory = settings.params.rollout.kind.in_memory
        self.weights: Callable[[], Mapping[str, Any]] | None = trainer.weights if in_memory else None

    def prepare(self) -> None:
        """Import what rollout and update need."""
        import r1_searcher.rollout.engines
        import r1_searcher.update.trainer  # noqa: F401

        set_threads(self.settings.params)
