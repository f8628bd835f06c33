"""Weights of a new checkpoint without a restart: they arrive whole, and the check fails if they did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_jobs import GREEDY, jobs, run
from safetensors.torch import load_file, save_file
from tiny_engines import settings, true_logprobs, write_policy

from r1_searcher.errors import PipelineError
from r1_searcher.rollout import load_engine
from r1_searcher.rollout.sync import check_sync, tolerance

KINDS = ("transformers", "vllm")
CLOSE = 5e-5
PROBES = [[5, 9, 40, 41, 7, 120, 3], [8, 300], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], list(range(40, 140))]
MASKS = [[False] + [place % 3 > 0 for place in range(1, len(ids))] for ids in PROBES]
LEARNING_RATE = 5e-4  # of the laptop's profile: the step size of Adam's first update

both = pytest.mark.parametrize("kind", KINDS)


def trainer_logprobs(folder: Path, temperature: float = 1.0) -> list[list[float]]:
    """Return a correct trainer's log-probabilities of the probes' policy tokens."""
    scores = [true_logprobs(folder, ids, temperature) for ids in PROBES]
    return [[v for v, kept in zip(s, mask, strict=True) if kept] for s, mask in zip(scores, MASKS, strict=True)]


def check(engine: Any, folder: Path, *, dtype: str = "float32", temperature: float = 1.0) -> float:
    """Run the check that follows each synchronisation; returns the mean gap."""
    logprobs = trainer_logprobs(folder, temperature)
    allowed = tolerance(dtype, temperature)
    return check_sync(engine, PROBES, MASKS, logprobs, temperature=temperature, allowed=allowed).mean


def updated(folder: Path, target: Path) -> Path:
    """Return the policy after Adam's first update: each weight moves by the learning rate, up or down."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    random = torch.Generator().manual_seed(0)
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        weights[name] = tensor + LEARNING_RATE * (torch.randint(0, 2, tensor.shape, generator=random) * 2 - 1)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("sharded", [False, True], ids=["one_file", "sharded"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@both
def test_other_weights_are_taken_up_whole(kind: str, tied: bool, sharded: bool, tmp_path: Path) -> None:
    shard = "100KB" if sharded else "5GB"
    family = "llama" if tied == sharded else "qwen2"
    folders = [
        write_policy(tmp_path / f"{seed}", family=family, tied=tied, seed=seed, max_shard_size=shard) for seed in (1, 2)
    ]
    assert len(list(folders[0].glob("*.safetensors"))) == 1 or sharded
    engine, fresh = (load_engine(folder, settings(kind)) for folder in folders)
    assert check(engine, folders[0]) < 1e-5
    before, expected = run(engine, jobs(), GREEDY), run(fresh, jobs(), GREEDY)
    with pytest.raises(PipelineError, match="does not have the trainer's weights"):
        check(engine, folders[1])
    for folder, tokens in ((folders[1], expected), (folders[0], before), (folders[1], expected)):
        engine.load_weights(folder)
        assert check(engine, folder) < 1e-5 and check(engine, folder, temperature=0.7) < 1e-5
        # The same prompts again: nothing cached with the old weights is used.
        assert [one.ids for one in run(engine, jobs(), GREEDY)] == [one.ids for one in tokens]
    for one, two in zip(engine.score(PROBES, temperature=1.0), PROBES, strict=True):
        np.testing.assert_allclose(one, true_logprobs(folders[1], two, 1.0), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@both
def test_weights_one_update_old_are_caught(kind: str, tied: bool, tmp_path: Path) -> None:
    old = write_policy(tmp_path / "old", tied=tied)
    new = updated(old, tmp_path / "new")
    engine = load_engine(old, settings(kind))
    with pytest.raises(PipelineError, match=f"engine {kind}: the engine does not have the trainer's weights"):
        check(engine, new)
    engine.load_weights(new)
    check(engine, new)
    with pytest.raises(PipelineError, match="does not have"):
        check(engine, old)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_did_not_arrive_are_caught(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is silent if it loads nothing, or skips the head; the check is not."""
    folders = [write_policy(tmp_path / f"{seed}", tied=True, seed=seed) for seed in (1, 2)]
    engine: Any = load_engine(folders[0], settings("vllm", dtype=dtype))
    check(engine, folders[0], dtype=dtype)
    with monkeypatch.context() as patch:
        patch.setattr(engine._core, "collective_rpc", lambda *args, **kwargs: None)
        engine.load_weights(folders[1])
        with pytest.raises(PipelineError, match="does not have"):
            check(engine, folders[1], dtype=dtype)
    with monkeypatch.context() as patch:
        patch.setattr("r1_searcher.rollout.vllm_engine.make_untied_view", headless)
        patch.setattr("r1_searcher.rollout.vllm_engine.check_same", lambda *args, **kwargs: None)
        engine.load_weights(folders[1])
        with pytest.raises(PipelineError, match="does not have"):
            check(engine, folders[1], dtype=dtype)
    engine.load_weights(folders[1])
    check(engine, folders[1], dtype=dtype)


def headless(policy: Path, view: Path) -> Path:
    """A view without the head: what vLLM gets if a tied policy is loaded unchanged."""
    view.mkdir(parents=True)
    for file in policy.iterdir():
        (view / file.name).symlink_to(file)
    return view


@both
def test_another_architecture_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    policy = write_policy(tmp_path / "policy")
    engine = load_engine(policy, settings(kind))
    others: list[tuple[str, dict[str, Any]]] = [
        ("wider", {"hidden": 96}),
        ("deeper", {"layers": 3}),
        ("llama", {"family": "llama"}),
    ]
    for name, changes in others:
        other = write_policy(tmp_path / name, **changes)
        with pytest.raises(PipelineError, match="of another architecture") as caught:
            engine.load_weights(other)
        told = str(caught.value)
        assert str(other) in told and "start a new engine" in told and "\n" not in told
        check(engine, policy)  # as it was
    for broken in (tmp_path / "nothing", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(PipelineError) as caught:
            engine.load_weights(broken)
        assert "\n" not in str(caught.value) and broken.name in str(caught.value)
    check(engine, policy)


@both
def test_an_engine_that_slept_is_as_it_was(kind: str, tmp_path: Path) -> None:
    """On a CPU nothing is released; tests/engines/test_engine_gpu.py has the rest."""
    policy = write_policy(tmp_path / "policy")
    engine = load_engine(policy, settings(kind, vllm={"sleep": True}))
    before = run(engine, jobs())
    engine.sleep()
    engine.sleep()
    engine.wake()
    engine.wake()
    check(engine, policy)
    assert [one.ids for one in run(engine, jobs())] == [one.ids for one in before]
