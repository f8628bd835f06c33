"""vLLM's start and use: one line per error, the process left unchanged, the cache used."""

from __future__ import annotations

import gc
import json
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_jobs import GREEDY, SAMPLING, STOPS, Job, jobs, run
from tiny_engines import engine_of, policy, settings, write_policy

from r1_searcher.errors import PipelineError
from r1_searcher.rollout import load_engine
from r1_searcher.rollout.vllm_start import BLOCK_ON_CPU
from r1_searcher.types.protocols import Sampling


def other_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["NobodysModelForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_off(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])


@pytest.mark.parametrize(
    ("spoil", "changes", "told"),
    [
        (other_architecture, {}, "NobodysModelForCausalLM.*rollout.engine: transformers"),
        (no_weights, {}, "the folder has no safetensors"),
        (cut_off, {}, "no weights could be read|vLLM did not start"),
        (None, {"max_total_tokens": 513}, "the model has 512 positions, and a trajectory may have 513 tokens"),
        (None, {"vllm": {"cpu_cache_gb": 1e-6}}, "vLLM did not start.*cpu_cache_gb"),
        (None, {"vllm": {"cpu_cache_gb": 1e5}}, "vLLM did not start.*cpu_cache_gb"),
    ],
    ids=["architecture", "no_weights", "cut_off", "positions", "little_cache", "no_memory"],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, spoil: Callable[[Path], None] | None, changes: dict[str, Any], told: str
) -> None:
    folder = write_policy(tmp_path / "policy")
    if spoil:
        spoil(folder)
    with pytest.raises(PipelineError, match=told) as caught:
        load_engine(folder, settings("vllm", **changes))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500, str(caught.value)


def test_what_was_started_for_shorter_trajectories_says_so() -> None:
    engine = engine_of("vllm", "qwen2")
    with pytest.raises(PipelineError, match="started for trajectories of 301 tokens at most"):
        engine.start(Sampling(1.0, 1.0, 20, 400), STOPS)
    with pytest.raises(PipelineError, match="a sequence of 301 tokens cannot be scored: fewer than 301 can be"):
        engine.score([[5] * 301], temperature=1.0)
    assert len(engine.score([[5] * 300, [5], [5, 6]], temperature=1.0)[0]) == 300
    assert engine.score([], temperature=1.0) == []


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    """The trainer shares the process: threads, number format, gradients."""
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    load_engine(write_policy(tmp_path / "policy"), settings("vllm", dtype="bfloat16"))
    assert torch.set_num_threads is set_threads and torch.get_num_threads() == threads
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


def test_a_turn_reads_no_more_than_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trajectory's earlier tokens are found in the cache, except its last block."""
    engine: Any = engine_of("vllm", "qwen2")
    cached: Counter[str] = Counter()
    lengths: dict[str, int] = {}
    step, ask = engine._core.step, engine._core.add_request

    def noted_step() -> Any:
        outputs = step()
        for output in outputs:
            cached[output.request_id] = max(cached[output.request_id], output.num_cached_tokens or 0)
        return outputs

    def noted_ask(request: str, prompt: Any, wanted: Any) -> Any:
        lengths[request] = len(prompt["prompt_token_ids"])
        return ask(request, prompt, wanted)

    monkeypatch.setattr(engine._core, "step", noted_step)
    monkeypatch.setattr(engine._core, "add_request", noted_ask)
    documents = [[200 + place] * 50 for place in range(3)]
    (made,) = run(engine, [Job(list(range(60, 100)), 3, documents)], GREEDY)
    turns = sorted(lengths, key=int)
    assert len(turns) == len(made.lengths) >= 3
    known = 0  # tokens prefilled when the turn began: all but the last sampled one
    for request, sampled in zip(turns, made.lengths, strict=True):
        assert cached[request] >= (known - 1) // BLOCK_ON_CPU * BLOCK_ON_CPU, request
        known = lengths[request] + sampled - 1


def test_a_cache_that_is_too_small_for_all_changes_nothing(tmp_path: Path) -> None:
    """Trajectories are then preempted in the middle of a turn, and prefilled again."""
    block = 2 * 2 * 32 * 4 * BLOCK_ON_CPU  # bytes: keys and values, layers, a head of 32 float32
    room = 14 * block / 2**30  # of 14 blocks; one trajectory may need 10, and four run at once
    small: Any = load_engine(policy("qwen2"), settings("vllm", vllm={"cpu_cache_gb": room, "max_num_seqs": 4}))
    sampling = Sampling(temperature=1.0, top_p=1.0, max_turn_tokens=250, max_total_tokens=300)
    preempted: list[int] = []
    schedule = small._core.engine_core.engine_core.scheduler.schedule

    def noted(*args: Any) -> Any:
        planned = schedule(*args)
        preempted.append(len(planned.preempted_req_ids or ()))
        return planned

    small._core.engine_core.engine_core.scheduler.schedule = noted
    expected, made = (
        run(engine, jobs(), sampling, stops=["no such text"]) for engine in (engine_of("vllm", "qwen2"), small)
    )
    assert sum(preempted) > 0, "there was room for all"
    assert [(one.ids, one.stops) for one in made] == [(one.ids, one.stops) for one in expected]


def test_engines_of_a_process_do_not_touch_each_other(tmp_path: Path) -> None:
    """Each has its own temperature, and an aborted one leaves shared state to the others."""
    one, two = engine_of("vllm", "qwen2"), engine_of("vllm", "llama")
    before = run(one, jobs(), SAMPLING)
    two.score([[1, 2, 3]], temperature=0.3)
    assert [made.ids for made in run(one, jobs(), SAMPLING)] == [made.ids for made in before]
    three = load_engine(write_policy(tmp_path / "policy"), settings("vllm"))
    weights = weakref.ref(next(iter(three._core.model_executor.driver_worker.model_runner.model.parameters())))  # type: ignore[attr-defined]
    del three
    for _ in range(2):  # the first round ends the engine; frozen objects go in the second
        gc.collect()
    assert torch.distributed.is_initialized()
    assert [made.ids for made in run(one, jobs(), SAMPLING)] == [made.ids for made in before]
    assert weights() is None, "the weights of an engine that is gone are still in memory"
