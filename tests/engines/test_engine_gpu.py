"""What differs on a GPU: vLLM in its own process, memory that is released, weights that come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_jobs import GREEDY, jobs, run
from tiny_engines import settings, true_logprobs, write_policy

from r1_searcher.errors import PipelineError
from r1_searcher.rollout import load_engine
from r1_searcher.rollout.sync import check_sync, tolerance
from r1_searcher.types.protocols import Sampling

pytestmark = pytest.mark.gpu

PROBES = [list(range(40, 140)), [5, 9, 40, 41, 7, 120, 3]]
MASKS = [[False] + [True] * (len(ids) - 1) for ids in PROBES]


@pytest.fixture
def policies(tmp_path: Path) -> list[Path]:
    return [write_policy(tmp_path / f"{seed}", tied=True, seed=seed) for seed in (1, 2)]


@pytest.fixture
def engine(policies: list[Path]) -> Iterator[Any]:
    """With a small share of the GPU, which others may use too."""
    changes = {"sleep": True, "gpu_memory_utilization": 0.2, "max_num_batched_tokens": 2048}
    started: Any = load_engine(policies[0], settings("vllm", dtype="bfloat16", vllm=changes), tensor_parallel=1)
    yield started
    started._core.engine_core.shutdown()


def check(engine: Any, policy: Path) -> None:
    """Against a plain forward in float64."""
    expected = [true_logprobs(policy, ids, 1.0)[1:] for ids in PROBES]
    check_sync(engine, PROBES, MASKS, expected, temperature=1.0, allowed=tolerance("bfloat16", 1.0))


def free() -> int:
    import torch

    return int(torch.cuda.mem_get_info()[0])


def test_sleep_gives_the_memory_back_and_wake_takes_it_again(engine: Any, policies: list[Path]) -> None:
    before, awake = run(engine, jobs(), GREEDY), free()
    engine.sleep()
    asleep = free()
    assert asleep > awake + 2**30, "less than a GiB came back"
    engine.wake()
    assert free() < asleep - 2**30
    check(engine, policies[0])
    assert [one.ids for one in run(engine, jobs(), GREEDY)] == [one.ids for one in before]


def test_weights_are_synchronised_after_an_update_and_after_sleep(engine: Any, policies: list[Path]) -> None:
    check(engine, policies[0])
    with pytest.raises(PipelineError, match="does not have"):
        check(engine, policies[1])
    engine.load_weights(policies[1])
    check(engine, policies[1])
    engine.sleep()
    engine.wake()
    engine.load_weights(policies[0])
    check(engine, policies[0])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_of_samples_are_the_models(engine: Any, policies: list[Path], temperature: float) -> None:
    sampling = Sampling(temperature, 1.0, max_turn_tokens=20, max_total_tokens=200)
    gaps = []
    for one in run(engine, jobs(), sampling):
        expected = true_logprobs(policies[0], one.ids, temperature)
        gaps += [abs(value - expected[place]) for place, value in one.logprobs]
    assert len(gaps) > 100 and sum(gaps) / len(gaps) <= tolerance("bfloat16", temperature).mean
