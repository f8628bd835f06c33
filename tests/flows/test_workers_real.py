"""Two engines and a trainer of two ranks (gloo) in separate processes, with a real tiny policy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_project import make_project

import flows.workers
from r1_searcher.files.artefacts import read_table
from r1_searcher.training.workbench import Workbench

TESTS = Path(__file__).resolve().parents[1]


def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """Train the project's segment; returns its workbench, for the paths."""
    from flows.train import train

    monkeypatch.chdir(place)
    train("s1")
    bench = Workbench("s1")
    bench.store.root = place / bench.store.root
    return bench


def first_policy(bench: Workbench) -> dict[str, np.ndarray]:
    """Return the weights after the first update."""
    [file] = (bench.store.place("checkpoints", bench.keys[0].policy) / "policy").glob("*.safetensors")
    return load_file(file)


def test_two_engines_one_of_them_killed_and_two_ranks_learn_what_one_process_learns(
    prefect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One engine is killed in the middle of a shard. The first iteration's rollouts and rewards are the same bytes; two
    ranks sum in another order, so the weights after its update agree to 2e-5: Adam's steps of 5e-3 have gradients that
    differ in the last digits."""
    inside = run(make_project(tmp_path / "inside", {"shards": 2}), monkeypatch)
    monkeypatch.setattr(flows.workers, "ENGINE", "losing_engine:LosingEngine")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    place = make_project(tmp_path / "local", {"place": "local", "engines": 2, "shards": 2, "ranks": 2})
    (place / "lose").touch()
    local = run(place, monkeypatch)
    assert (place / "lost").exists()
    made = [bench.store.root.parent / "data/train/s1" for bench in (inside, local)]
    for kind in ("rollouts", "rewards"):
        mine, other = ((place / kind / "0000.parquet").read_bytes() for place in made)
        assert mine == other, kind
        assert read_table(made[1] / kind / "0001.parquet").num_rows == 16
    before = load_file(tmp_path / "inside/data/base_model/model.safetensors")
    one, two = first_policy(inside), first_policy(local)
    assert max(float(np.abs(one[name] - before[name]).max()) for name in one) > 1e-3
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, rtol=0, atol=2e-5, err_msg=name)
