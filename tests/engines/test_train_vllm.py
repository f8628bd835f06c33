"""Train a segment with vLLM as its engine: in the trainer's process, and in a separate process."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_engines import settings, true_logprobs, write_policy
from tiny_project import make_project

import r1_searcher.rollout
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_table
from r1_searcher.training.workbench import Workbench
from r1_searcher.transcripts import grammar
from r1_searcher.types.schemas import ROLLOUTS

TESTS = Path(__file__).resolve().parents[1]
VLLM = {"engine": "vllm", "vllm": settings("vllm").vllm}


def train(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from flows.train import train

    monkeypatch.chdir(place)
    train("s1")
    return place / "data/train/s1"


def check_on_policy(made: Path) -> None:
    """The engine's log-probabilities of the second iteration are those of the policy after the first update."""
    bench = Workbench("s1")
    bench.store.root = made.parents[2] / bench.store.root
    for iteration in (0, 1):
        policy = bench.policy_folder(iteration)
        assert policy is not None
        for row in read_table(made / f"rollouts/{iteration:04}.parquet", ROLLOUTS).slice(0, 6).to_pylist():
            expected = true_logprobs(policy, row["token_ids"], 1.0)
            own = [v for v, source in zip(expected, row["token_source"], strict=True) if source == grammar.POLICY]
            np.testing.assert_allclose(row["policy_logprobs"], own, rtol=0, atol=5e-5)


def test_a_segment_inside_and_with_a_process_a_worker(
    prefect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    inside = train(make_project(tmp_path / "inside", {}, write_policy=write_policy, rollout=VLLM), monkeypatch)
    check_on_policy(inside)
    local = train(
        make_project(tmp_path / "local", {"place": "local"}, write_policy=write_policy, rollout=VLLM), monkeypatch
    )
    check_on_policy(local)
    first = [read_table(made / "rollouts/0000.parquet", ROLLOUTS) for made in (inside, local)]
    assert first[0]["token_ids"].to_pylist() == first[1]["token_ids"].to_pylist()


def test_vllm_that_starts_with_other_weights_samples_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_project(tmp_path / "other", {}, write_policy=write_policy, rollout=VLLM)
    other = write_policy(tmp_path / "policy", seed=5)
    load = r1_searcher.rollout.load_engine
    monkeypatch.setattr(r1_searcher.rollout, "load_engine", lambda policy, *args, **more: load(other, *args, **more))
    monkeypatch.chdir(place)
    with pytest.raises(PipelineError, match="engine vllm: the engine does not have the trainer's weights"):
        Workbench("s1").watch(0)
    assert list((place / ".store").glob("watches/*/*")) == []
