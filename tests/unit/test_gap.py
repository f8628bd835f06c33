"""The gap between engine and trainer: right pairs pass in either precision; wrong ones stop, and nothing is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_policy import params_with

import r1_searcher.update
from r1_searcher.errors import PipelineError
from r1_searcher.training import trainer_worker
from r1_searcher.training.trainer_worker import TrainerWorker
from r1_searcher.training.workers import Lesson, WorkerSettings
from r1_searcher.update.gap import check_gap, largest_gap


def test_the_bound_is_of_the_less_exact_precision() -> None:
    assert largest_gap(params_with()) == 1e-3
    assert largest_gap(params_with(update__dtype="bfloat16")) == 0.1
    assert largest_gap(params_with(rollout__dtype="bfloat16")) == 0.1
    assert largest_gap(params_with(rollout__temperature=0.5)) == 2e-3  # errors of logits are divided by it
    assert largest_gap(params_with(update__max_logprob_gap=0.3)) == 0.3


@pytest.mark.parametrize("gap", [0.002, float("nan"), float("inf")])
def test_a_gap_that_is_no_rounding_is_one_line(gap: float) -> None:
    check_gap({}, 1e-3, model="m")
    check_gap({"logprob_gap_mean": 1e-6, "logprob_gap_max": 1e-4}, 1e-3, model="m")
    with pytest.raises(PipelineError, match=r"m: engine and trainer differ by .* raise update\.max_logprob_gap"):
        check_gap({"logprob_gap_mean": gap, "logprob_gap_max": 2 * gap}, 1e-3, model="m")


@pytest.mark.parametrize(("on_policy", "stops"), [(True, True), (False, False)])
def test_only_what_the_same_weights_sampled_is_looked_at(
    on_policy: bool, stops: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overlapped iteration is legitimately off-policy. A stop leaves no file of its update."""
    written: list[Path] = []
    found = {"logprob_gap_mean": 0.5, "logprob_gap_max": 2.0}
    monkeypatch.setattr(r1_searcher.update, "load_trainer", lambda *args, **kwargs: object())
    monkeypatch.setattr(r1_searcher.update, "update_policy", lambda *args: (None, found))
    monkeypatch.setattr(trainer_worker, "read_table", lambda *args: None)
    for name in ("write_table", "write_json"):
        monkeypatch.setattr(trainer_worker, name, lambda path, *args: written.append(path))
    worker = TrainerWorker(WorkerSettings(params_with(), "stage1", Path("policy"), "retriever"))
    worker.begin(None, 0)
    lesson = Lesson(Path("rollouts.parquet"), Path("rewards.parquet"), on_policy=on_policy)
    if stops:
        with pytest.raises(PipelineError, match=r"engine and trainer differ by 0\.5"):
            worker.update(lesson, tmp_path)
        assert worker.at is None and not written  # half an update is in the weights
    else:
        worker.update(lesson, tmp_path)
        assert worker.at == 1 and len(written) == 2


def test_the_bound_is_in_no_key() -> None:
    """If raised after a stop, what was sampled must not be discarded."""
    from r1_searcher.training import chain

    def keys(**changes: Any) -> Any:
        params = params_with(**changes)
        name, segment = next(iter(params.train.segments.items()))
        assert name
        return chain.chain_keys(params, segment, chain.Roots("p", None, "r", "q"), chain.room_code())

    assert keys() == keys(update__max_logprob_gap=1.0)
    assert keys() != keys(update__clip=0.3)
