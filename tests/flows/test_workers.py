"""Training with workers in separate processes, with quick fakes for the stages: losses, resume, overlap."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_rooms
import pytest
from living import all_end
from segment_runs import FAKES, ONE, in_a_process, made, train

from flows.worker_process import BEAT
from flows.workers_local import LocalPlace, LocalWorker, cores_of, gpus_of
from flows.workers_ray import seats
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_metadata, read_table
from r1_searcher.training.in_process import InProcessWorkers
from r1_searcher.training.workbench import Workbench
from r1_searcher.training.workers import WorkerLost

LOCAL: dict[str, Any] = {"place": "local", "engines": 2, "shards": 2}
OVERLAPPED: dict[str, Any] = {"workers": LOCAL, "overlap": 1}


@pytest.fixture(autouse=True)
def fake_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make flows start the fake workers; returns the file that loses one of them once it is written."""
    import flows.workers

    for name in ("ENGINE", "TRAINER"):
        monkeypatch.setattr(flows.workers, name, f"fake_rooms:{name.lower()}_worker")
    monkeypatch.setenv("PYTHONPATH", f"{FAKES.parent}{os.pathsep}{FAKES.parents[1]}")
    monkeypatch.setenv("FAKE_LOSE", str(tmp_path / "lose"))
    return tmp_path / "lose"


class Apart(InProcessWorkers):
    """Workers in this process that hand weights over by folder, like those in other processes."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench.worker_settings)
        self.weights = None


def all_ended(place: Path, at_least: int) -> bool:
    """Return whether all worker processes of a project end within a moment."""
    numbers = [int(file.name) for file in (place / "processes").iterdir()]
    assert len(numbers) >= at_least
    return all_end(numbers)


def test_workers_elsewhere_make_the_same_bits_and_a_lost_engine_costs_nothing(
    prefect: str, project: Callable[..., Path], fake_workers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = project("inside", ONE, workers={"shards": 2})
    train("s1")
    assert fake_rooms.calls.count("rollout") == 10  # two shards per iteration
    capsys.readouterr()
    place = project("local", ONE, workers=LOCAL)
    fake_workers.write_text("rollout/")
    train("s1")
    assert made(place) == made(inside)
    assert not fake_workers.exists()
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert len(warned) == 1 and "was killed by SIGKILL" in warned[0] and "engine-" in warned[0]
    assert all_ended(place, at_least=4)  # two engines, one of them twice, and the trainer
    assert list((place / ".store").glob("shards/*/*")) == list((place / ".store").glob("weights/*/*")) == []


def test_an_engine_that_hangs_is_ended_and_its_shard_sampled_elsewhere(
    prefect: str,
    project: Callable[..., Path],
    fake_workers: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("flows.workers_local.SILENT_SECONDS", 15.0)
    one = {"s1": {**ONE["s1"], "iterations": 1}}
    inside = project("inside", one, workers={"shards": 2})
    train("s1")
    capsys.readouterr()
    place = project("local", one, workers=LOCAL)
    fake_workers.write_text("rollout/ stop")
    train("s1")
    assert made(place) == made(inside)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert "gave no sign of life for 15 s and was ended" in line and "engine-" in line
    assert all_ended(place, at_least=3)  # two engines and the trainer; a third engine only if a job found no other


def test_long_work_is_no_hang(project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: the worker's process reports that it runs."""
    project("long", ONE)
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parent))
    worker = LocalPlace(Workbench("s1").worker_settings, tmp_path / "logs").start(
        "engine", 0, "slow_worker:SlowWorker", {}
    )
    heard: list[Any] = []
    hear = LocalWorker._receive

    def listen(worker: LocalWorker) -> Any:
        heard.append(hear(worker))
        return heard[-1]

    monkeypatch.setattr(LocalWorker, "_receive", listen)
    try:
        assert worker.call("work", 5.0) is None
    finally:
        worker.close()
    assert heard[:2] == [BEAT, BEAT] and heard[-1] == (True, None)


def test_a_lost_rank_ends_the_group_which_goes_on_from_the_last_checkpoint(
    prefect: str, project: Callable[..., Path], fake_workers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"place": "local", "ranks": 2}
    whole = project("whole", ONE, workers=settings)
    train("s1")
    place = project("lost", ONE, workers=settings)
    fake_workers.write_text("update/1 always")
    with pytest.raises(WorkerLost, match=r"workers: trainer 1 \(process \d+\) was killed by SIGKILL"):
        train("s1")
    assert all_ended(place, at_least=7)  # an engine, and two ranks in each of three attempts
    fake_workers.write_text("update/1")
    train("s1")
    assert made(place) == made(whole)


def test_an_engine_that_did_not_take_up_the_weights_stops_the_run(
    prefect: str, project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project("deaf", ONE, workers={"place": "local"})
    monkeypatch.setenv("FAKE_DEAF", "1")
    with pytest.raises(PipelineError, match="engine fake: the engine does not have the trainer's weights"):
        train("s1")


def test_an_engine_that_starts_with_other_weights_stops_the_run_before_it_samples(
    prefect: str, project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the first policy, or with a checkpoint when a run is resumed; whoever then holds them is unaffected."""
    whole = project("whole", ONE, workers={"place": "local"})
    train("s1")
    place = project("blind", ONE, workers={"place": "local"})
    monkeypatch.setenv("FAKE_BLIND", "1")
    with pytest.raises(PipelineError, match="engine fake: the engine does not have the trainer's weights"):
        train("s1")
    assert list((place / ".store").glob("watches/*/*")) == list((place / ".store").glob("rollouts/*/*")) == []
    monkeypatch.delenv("FAKE_BLIND")
    run = in_a_process(place, prefect, FAKE_LAST_ITERATION="1")  # two updates, and a checkpoint of the second
    assert run.returncode == -9, run.stderr
    bench = Workbench("s1")
    assert bench.resume_point() == 2 and bench.missing("rollout", 2)
    for kept in (place / ".store").glob("weights/*/*"):  # as if the run had ended otherwise
        shutil.rmtree(kept)
    monkeypatch.setenv("FAKE_BLIND", "1")
    with pytest.raises(PipelineError, match="engine fake: the engine does not have the trainer's weights"):
        train("s1")
    assert bench.missing("rollout", 2)
    monkeypatch.delenv("FAKE_BLIND")
    train("s1")
    assert made(place) == made(whole)


def test_a_checkpoint_is_not_written_again_to_be_handed_over(project: Callable[..., Path]) -> None:
    project("kept", ONE, workers={"place": "local"})
    bench = Workbench("s1")
    bench.workers = Apart(bench)
    for done in range(3):
        bench.hand_over("rollout", done)
        policy, probe = bench._policy(done), bench._policy(done).probe
        assert policy.folder == (Path("data/base_model") if done == 0 else policy.folder)
        assert policy.folder is not None and (policy.folder / "model.safetensors").exists()
        assert probe is not None and read_table(probe).num_rows == 4
        assert (probe.parent / "policy").exists() == (done == 1)  # the second has a checkpoint
        made = bench.rollout(done)
        bench.update(done, made.path, bench.reward(done, made.path).path)
    assert len(list(bench.store.root.glob("weights/*/*"))) == 1  # of the present one
    bench.tidy()
    assert list(bench.store.root.glob("weights/*/*")) == []


def test_with_overlap_the_policy_before_a_checkpoint_is_held_against_the_trainer_too(
    project: Callable[..., Path],
) -> None:
    """The trainer begins with it, although the validation, which comes first, is of the checkpoint."""
    project("before", ONE, overlap=1, workers={"place": "local"}, checkpoint_every=1)
    bench = Workbench("s1")
    bench.workers = Apart(bench)
    for iteration in range(2):
        made = bench.rollout(iteration)
        bench.update(iteration, made.path, bench.reward(iteration, made.path).path)
    again = Workbench("s1")
    again.workers = Apart(again)
    for kept in again.store.root.glob("weights/*/*"):
        shutil.rmtree(kept)
    again.hand_over("watch", 2)
    assert again.workers.trainer.at == 2
    again.watch(2)
    again.rollout(2)
    assert again._policy(1).probe is not None and again._policy(2).probe is not None


def test_with_overlap_rollouts_are_one_update_behind_and_a_killed_run_goes_on(
    prefect: str, project: Callable[..., Path]
) -> None:
    whole = project("whole", ONE, **OVERLAPPED)
    train("s1")
    bench = Workbench("s1")
    sampled_by = [
        read_metadata(whole / f"data/train/s1/rollouts/{iteration:04d}.parquet")["policy"] for iteration in range(5)
    ]
    assert sampled_by == [bench.policy_key(done) for done in (0, 0, 1, 2, 3)]
    place = project("killed", ONE, **OVERLAPPED)
    run = in_a_process(place, prefect, FAKE_LAST_ITERATION="2")
    assert run.returncode == -9, run.stderr
    assert all_ended(place, at_least=3)
    stored = len(list((place / ".store").glob("rollouts/*/*")))
    assert 0 < stored < 5
    train("s1")
    assert made(place) == made(whole)


def test_overlap_resumes_where_the_policy_that_samples_next_is_at_hand(project: Callable[..., Path]) -> None:
    """The checkpoint of 2 is useless without rollouts 2, by policy 1: policy 1 is not stored."""
    project("gap", ONE, **OVERLAPPED)
    bench = Workbench("s1")
    for iteration in range(2):
        keys = bench.keys[iteration]
        for kind, key in (("rollouts", keys.rollouts), ("rewards", keys.rewards), ("updates", keys.policy)):
            with bench.store.put(kind, key):
                pass
    with bench.store.put("watches", bench._watch_key(0)):
        pass
    with bench.store.put("checkpoints", bench.keys[1].policy):
        pass
    assert bench.resume_point() == 0
    with bench.store.put("rollouts", bench.keys[2].rollouts):
        pass
    assert bench.resume_point() == 2


def test_who_gets_which_gpus_and_cores(project: Callable[..., Path]) -> None:
    project("pins", ONE)
    params = Workbench("s1").params
    assert gpus_of(params, "engine", 0, None) == ""
    eight = params.hardware.model_copy(
        update={"gpus": 8, "trainer_gpus": 4, "engine_gpus": 4, "tensor_parallel": 2, "gpu_memory_gib": 80}
    )
    params = params.model_copy(update={"hardware": eight})
    assert [gpus_of(params, "trainer", rank, None) for rank in range(4)] == ["0", "1", "2", "3"]
    assert [gpus_of(params, "engine", number, None) for number in range(2)] == ["4,5", "6,7"]
    assert gpus_of(params, "engine", 1, "8,9,10,11,12,13,14,15") == "14,15"
    with pytest.raises(PipelineError, match="workers on 8 GPUs, and CUDA_VISIBLE_DEVICES names 2"):
        gpus_of(params, "trainer", 0, "0,1")
    assert cores_of(1, 2, 2, {0, 2, 4, 6}) == {4, 6}
    assert cores_of(1, 2, 2, {0, 1, 2}) is None  # fewer cores per worker than it has threads
    nodes, roles = ["a", "b", "a", "a", "b"], ["engine"] * 3 + ["trainer"] * 2
    assert seats(nodes, roles) == [(0, 2), (0, 1), (1, 2), (0, 1), (0, 1)]  # on Ray with several nodes


def test_what_goes_wrong_in_a_worker_is_raised_here(project: Callable[..., Path], tmp_path: Path) -> None:
    project("raises", ONE)
    worker = LocalPlace(Workbench("s1").worker_settings, tmp_path / "logs").start("engine", 0, "builtins:type", {})
    try:
        with pytest.raises(AttributeError, match="no_such_method") as raised:
            worker.call("no_such_method")
        assert "in the worker:" in raised.value.__notes__[0]
    finally:
        worker.close()
    with pytest.raises(WorkerLost, match=r"engine 0 \(process \d+\) ended with status 0"):
        worker.call("mro")
