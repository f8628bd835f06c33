"""One rank of the trainer, kept warm. The environment says which rank (``r1_searcher.update.distributed``).

Independent of processes and the store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_searcher.files.artefacts import read_table, write_json, write_table
from r1_searcher.training.engine_worker import set_threads
from r1_searcher.training.reference_worker import read_reference
from r1_searcher.training.rendezvous import join_process_group
from r1_searcher.training.workers import Lesson, WorkerSettings
from r1_searcher.types.protocols import Trainer
from r1_searcher.types.schemas import REWARDS, ROLLOUTS
from r1_searcher.update.gap import check_gap, largest_gap


class TrainerWorker:
    """``Trainers`` in this process. All ranks are called alike, and the first one writes."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Loads nothing yet."""
        self.settings, self.params = settings, settings.params
        self.at: int | None = None
        self._trainer: Trainer | None = None

    def begin(self, folder: Path | None, at: int) -> None:
        """See ``workers.Trainers``. The segment's first policy is the anchor of the KL term."""
        from r1_searcher.update import load_trainer

        stage = getattr(self.params.train, self.settings.stage)
        set_threads(self.params)
        join_process_group()
        self._trainer = load_trainer(
            self.settings.start,
            self.params,
            learning_rate=stage.learning_rate,
            warmup_iterations=stage.warmup_iterations,
            reference_apart=bool(self.params.workers.reference),
        )
        if folder is not None:
            self._trainer.load(folder)
        self._release_cached_memory()
        self.at = at

    def update(self, lesson: Lesson, draft: Path | None = None) -> None:
        """See ``workers.Trainers``."""
        from r1_searcher.update import update_policy

        at, self.at = self.at, None  # after a failure the weights may hold half an update
        table, metrics = update_policy(
            self.trainer,
            read_table(lesson.rollouts, ROLLOUTS),
            read_table(lesson.rewards, REWARDS),
            self.params.update,
            None if lesson.reference is None else read_reference(lesson.reference),
        )
        if lesson.on_policy:
            check_gap(metrics, largest_gap(self.params), model=str(self.settings.start))
        if draft is not None and is_first_rank():
            write_table(draft / "advantages.parquet", table, lesson.metadata)
            write_json(draft / "metrics.json", metrics)
        self._release_cached_memory()
        assert at is not None, "a trainer begins somewhere before it updates"
        self.at = at + 1

    def save(self, policy: Path, *, step: int, parent: str) -> None:
        """See ``workers.Trainers``."""
        self.trainer.save(policy, step=step, parent=parent)

    def save_policy(self, policy: Path, *, step: int, parent: str) -> None:
        """See ``workers.Trainers``."""
        self.trainer.save_policy(policy, step=step, parent=parent)

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """See ``workers.Trainers``."""
        found = self.trainer.logprobs(token_ids, policy_mask)
        self._release_cached_memory()
        return found

    def weights(self) -> Mapping[str, Any]:
        """Return the trainer's own tensors by name: the next update changes them in place."""
        return self.trainer.export_weights()

    def _release_cached_memory(self) -> None:
        """Release torch's cached GPU memory, so that an engine in a process of its own can wake on the same GPU."""
        if self.params.hardware.gpus == 1 and self.params.rollout.kind.own_process:
            import torch

            torch.cuda.empty_cache()

    @property
    def trainer(self) -> Trainer:
        """The trainer that ``begin`` loaded."""
        assert self._trainer is not None, "begin comes first"
        return self._trainer


def is_first_rank() -> bool:
    """Return whether this process writes what all ranks have computed alike."""
    return os.environ.get("RANK", "0") == "0"
