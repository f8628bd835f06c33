"""Workers on a real Ray cluster of this machine: two CPU engines and a trainer of two ranks, one engine killed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_project import make_project

pytest.importorskip("ray", reason="Ray is not installed: make setup-ray")

from flows.ray_cluster import connect
from flows.workers_ray import RayPlace, pulse_file
from r1_searcher.errors import PipelineError
from r1_searcher.training.workbench import Workbench

SPREAD = {"place": "ray", "engines": 2, "shards": 2, "ranks": 2}
TESTS = Path(__file__).resolve().parents[1]


def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from flows.train import train

    monkeypatch.chdir(place)
    train("s1")
    return place / "data/train/s1"


@pytest.fixture(scope="module")
def inside(prefect: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what one process makes of the same shards."""
    with pytest.MonkeyPatch.context() as here:
        return run(make_project(tmp_path_factory.mktemp("inside") / "project", {"shards": 2}), here)


LOSSES = {"kill": "is gone", "stop": "gave no sign of life for 15 s and was ended"}


@pytest.mark.parametrize("way", LOSSES)
def test_a_run_on_ray_loses_an_engine_and_nothing_else(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    """The same bytes of rollouts and rewards as one process makes, weights within 2e-5 (two ranks sum in another
    order)."""
    import flows.workers

    monkeypatch.setattr(flows.workers, "ENGINE", "losing_engine:LosingEngine")
    if way == "stop":
        monkeypatch.setattr("flows.workers_ray.SILENT_SECONDS", 15.0)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    place = make_project(tmp_path / "ray", SPREAD)
    (place / "lose").write_text(way)
    capsys.readouterr()
    spread = run(place, monkeypatch)
    assert (place / "lost").exists()
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert len(warned) == 1 and LOSSES[way] in warned[0] and "engine-" in warned[0]
    assert list((place / ".store/.workers").rglob("*.pulse")) == []
    for kind in ("rollouts", "rewards"):
        assert (inside / kind / "0000.parquet").read_bytes() == (spread / kind / "0000.parquet").read_bytes(), kind
    one, two = (load_file(folder / "policy/model.safetensors") for folder in (inside, spread))
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, rtol=0, atol=2e-5, err_msg=name)


def test_a_dead_head_is_one_line() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
    with pytest.raises(PipelineError, match=rf"workers\.ray_address: no Ray cluster answers at {address}"):
        connect(address, cpus=1)
    with pytest.raises(PipelineError, match="not an address of a Ray cluster: 'somewhere'"):
        connect("somewhere", cpus=1)
    with pytest.raises(PipelineError, match="no Ray cluster answers at auto"):
        connect("auto", cpus=1)


def test_a_cluster_with_too_little_says_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.workers_ray

    place = make_project(tmp_path / "little", SPREAD)
    monkeypatch.chdir(place)
    monkeypatch.setattr(flows.workers_ray, "PLACE_SECONDS", 1.0)
    monkeypatch.setattr(flows.workers_ray, "bundles", lambda params: [{"CPU": 1.0, "GPU": 8.0}])
    with pytest.raises(
        PipelineError, match=r"did not give 1 CPUs and 8 GPUs within 1 s; it has .* and 0, in use or not"
    ):
        RayPlace(Workbench("s1").worker_settings, tmp_path / "logs")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process")
def test_workers_of_a_kind_have_cores_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = os.sched_getaffinity(0)
    if len(ours) < 2:
        pytest.skip("two engines cannot have a core each: this process has one")
    monkeypatch.chdir(make_project(tmp_path / "pinned", SPREAD))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    place = RayPlace(Workbench("s1").worker_settings, tmp_path / "logs")
    try:
        for kind in ("engine", "trainer"):
            workers = [place.start(kind, number, "pinned_worker:PinnedWorker", {}) for number in range(2)]
            one, two = (worker.call("cores") for worker in workers)
            assert one and two and not one & two, kind
            assert one | two <= ours and len(one) == len(two) == len(ours) // 2, kind
    finally:
        place.close()


def test_long_work_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: the worker's process reports that it runs."""
    monkeypatch.setattr("flows.ray_cluster.WATCH_SECONDS", 1.0)
    monkeypatch.chdir(make_project(tmp_path / "long", {"place": "ray"}))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    place = RayPlace(Workbench("s1").worker_settings, tmp_path / "logs")
    try:
        worker = place.start("engine", 0, "slow_worker:SlowWorker", {})
        assert worker.call("work", 6.0) is None
        assert int(worker._heard[0]) > 0
        worker.close()
        assert not pulse_file(tmp_path / "logs/engine-0.log").exists()
    finally:
        place.close()
