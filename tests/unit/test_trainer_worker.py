"""One rank of the trainer: when it releases GPU memory to a waiting engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policy import params_with

import r1_searcher.update
from r1_searcher.training import trainer_worker
from r1_searcher.training.trainer_worker import TrainerWorker
from r1_searcher.training.workers import Lesson, WorkerSettings

SHARED = {"hardware__gpus": 1, "hardware__gpu_memory_gib": 24, "hardware__trainer_gpus": 1, "hardware__engine_gpus": 1}


class FakeTrainer:
    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        return [[-1.0]]


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        ({**SHARED, "rollout__engine": "vllm"}, 3),
        ({**SHARED, "rollout__engine": "transformers"}, 0),  # in the same process torch keeps it for both
        ({"rollout__engine": "vllm"}, 0),
    ],
    ids=["vllm on the trainer's GPU", "transformers on it", "no GPU"],
)
def test_memory_goes_back_to_the_driver_where_vllm_waits(
    changes: dict[str, Any], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step that makes activations, and before the engine runs again."""
    given: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append(True))
    monkeypatch.setattr(r1_searcher.update, "load_trainer", lambda *args, **kwargs: FakeTrainer())
    monkeypatch.setattr(r1_searcher.update, "update_policy", lambda *args: (None, {}))
    monkeypatch.setattr(trainer_worker, "read_table", lambda *args: None)
    worker = TrainerWorker(WorkerSettings(params_with(**changes), "stage1", Path("policy"), "retriever"))
    worker.begin(None, 0)
    assert len(given) == times // 3
    worker.update(Lesson(Path("rollouts.parquet"), Path("rewards.parquet")))
    assert len(given) == times // 3 * 2
    assert worker.logprobs([[0, 1]], [[False, True]]) == [[-1.0]]
    assert len(given) == times
