"""The plan's engines against hand-worked figures: where each takes memory, and main memory."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from shipped_profiles import enter_shipped
from shipped_profiles import shipped_profile as profile

from r1_searcher.errors import PipelineError
from r1_searcher.plan import devices, memory, work
from r1_searcher.plan.architecture import known
from r1_searcher.plan.check import check_fit, check_profile
from r1_searcher.plan.engine import engine, trajectories_at_a_time
from r1_searcher.plan.machine import Machine
from r1_searcher.plan.memory import GIB
from r1_searcher.plan.remedies import remedies
from stages.plan.__main__ import main

USUAL = work.Workload()
TRANSFORMERS = ("rollout.engine=transformers", "rollout.max_batch=16")


def test_vllm_takes_its_share_of_a_gpu_of_its_own_and_scores_beside_it() -> None:
    model, found = known("qwen2.5-7b"), profile("qwen2.5-7b-base")
    parts = dict(engine(model, found, 80 * GIB).parts)
    layer = 2 * (6 * 3584 + 2 * (3584 + 512) + 512 + 3584 + 4 * 18944)
    assert parts.pop("scoring") == 4096 * 152064 * 10  # logits of a step's tokens, which vLLM does not reserve
    cache = parts["KV cache"]
    assert parts == {
        "weights": 2 * 7_615_616_512 // 2,  # two GPUs per engine; its head is not tied
        "activations": layer * 4096,
        "logits": 256 * 152064 * 14,
        "KV cache": cache,
    }
    assert sum(parts.values()) == 64 * GIB  # 0.8 of 80
    one = 57_344 * 907 * 32 // 2  # 29,001 tokens in blocks of 32
    assert trajectories_at_a_time(model, found, 80 * GIB, 29000) == cache // one == 71
    assert trajectories_at_a_time(model, found, 80 * GIB, 1259) == 256  # max_num_seqs
    few = profile("qwen2.5-7b-base", "rollout.max_batch=64")
    assert trajectories_at_a_time(model, few, 80 * GIB, 1259) == 64  # all that it is given at a time


def test_vllm_on_a_cpu_takes_the_cache_that_it_is_given() -> None:
    model, found = known("smollm2-135m"), profile("smollm2-135m-instruct")
    layer = 2 * (6 * 576 + 2 * (576 + 192) + 192 + 576 + 4 * 1536)
    assert engine(model, found, 0).parts == {
        "weights": 2 * (134_515_008 + 49152 * 576),  # it sees an untied policy
        "activations": layer * 2048,
        "logits": 256 * 49152 * 14,
        "KV cache": GIB,
        "scoring": 896 * 49152 * 10,
    }
    (use,) = devices.uses(model, found, USUAL, 0)
    assert use.parts["engine's KV cache"] == GIB and use.parts["trainer's optimizer"] == 12 * 134_515_008
    assert trajectories_at_a_time(model, found, 0, 896) == GIB // (23_040 * 29 * 32) == 50  # keys and values per token


def test_a_cpu_needs_all_of_vllms_cache_and_the_part_that_transformers_grows_is_not_asked_for() -> None:
    name, model = "smollm2-135m-instruct", known("smollm2-135m")
    for changes, asked in [((), True), (TRANSFORMERS, False)]:
        found = profile(name, *changes)
        (use,) = devices.uses(model, found, USUAL, 0)
        wanted = use.total - (0 if asked else use.parts["engine's KV cache"])
        assert check_profile(name, found, Machine((), wanted, 1000 * GIB)) == ""
        with pytest.raises(PipelineError, match=r"GiB of memory, and .* are free"):
            check_profile(name, found, Machine((), wanted - 1, 1000 * GIB))


def test_a_cache_that_holds_no_trajectory_is_refused() -> None:
    name, model = "smollm2-135m-instruct", known("smollm2-135m")
    small = profile(name, "rollout.vllm.cpu_cache_gb=0.01")
    with pytest.raises(PipelineError, match=r"vLLM's cache needs .* rollout\.vllm\.cpu_cache_gb=0\.1"):
        check_profile(name, small, Machine((), 64 * GIB, 1000 * GIB))
    check_fit(name, model, profile(name, "rollout.vllm.cpu_cache_gb=0.1"), USUAL, 0)


def test_transformers_cache_is_a_rectangle_wherever_it_is() -> None:
    model = known("qwen2.5-3b")
    found = profile("qwen2.5-3b", *TRANSFORMERS)
    expected = {
        "weights": 2 * 3_085_938_688,  # tied
        "KV cache": 36_864 * 4096 * 16,  # 36 layers, keys and values, 2 heads of 128, 2 bytes
        "logits": 16 * 151936 * 14,
    }
    assert engine(model, found, 80 * GIB).parts == expected
    assert trajectories_at_a_time(model, found, 80 * GIB, 1259) == 16
    (use,) = devices.uses(model, found, USUAL, 80 * GIB)  # nothing sleeps: both at once
    assert use.total == sum(expected.values()) + memory.trainer(model, found, USUAL).total
    apart = profile("qwen2.5-7b-base", *TRANSFORMERS, "hardware.tensor_parallel=1", "workers.engines=4",
                    "workers.shards=4")  # fmt: skip
    assert engine(known("qwen2.5-7b"), apart, 80 * GIB).parts["KV cache"] == 57_344 * 29000 * 16


def test_one_gpu_has_trainer_and_vllm_in_turn() -> None:
    """While sampling: the trainer's permanent part and vLLM's share; while training: the trainer alone."""
    model, found, size = known("qwen2.5-3b"), profile("qwen2.5-3b"), 3_085_938_688
    training, sampling, main = devices.uses(model, found, USUAL, 80 * GIB)
    assert training.total == memory.trainer(model, found, USUAL).total
    scoring = 2048 * 151936 * 10
    share = int(0.2 * 80 * GIB)
    assert sampling.total == (2 + 4 + 12) * size + share + scoring
    assert main.parts == {"sleeping engine's weights": 2 * (size + 151936 * 2048)}
    assert (main.memory, training.lacks, sampling.lacks, main.lacks) == (128 * GIB, False, False, False)
    awake = profile("qwen2.5-3b", "rollout.vllm.sleep=false")
    (both,) = devices.uses(model, awake, USUAL, 80 * GIB)
    assert both.total == training.total + share + scoring and both.lacks
    helps = remedies(model, awake, USUAL, 80 * GIB)
    assert "rollout.vllm.sleep=true" in helps


def test_an_evaluation_alone_has_no_trainer_and_nothing_sleeps() -> None:
    alone = profile("qwen2.5-3b").model_copy(update={"train": profile("released-qwen-7b").train})
    (use,) = devices.uses(known("qwen2.5-3b"), alone, USUAL, 80 * GIB)
    assert use.total == int(0.2 * 80 * GIB) + 2048 * 151936 * 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        ("qwen2.5-7b-base", 0.1, r"vLLM's share of a GPU needs \d+\.\d GiB and has 8\.0 \(10% of 80\)"),
        ("qwen2.5-7b-base", 0.9, r"each of 4 engine GPUs needs 77\.\d GiB and has 72\.0"),
        ("qwen2.5-3b", 0.5, r"the GPU while it samples needs 9\d\.\d GiB and has 72\.0"),
        ("qwen2.5-3b", 0.05, r"vLLM's share of a GPU needs \d\.\d GiB and has 4\.0 \(5% of 80\)"),
    ],
)
def test_a_share_that_does_not_fit_is_refused_and_those_named_do(name: str, share: float, message: str) -> None:
    change = f"rollout.vllm.gpu_memory_utilization={share}"
    found, limit = profile(name, change), 80 * GIB
    model = known("qwen2.5-7b" if "7b" in name else "qwen2.5-3b")
    with pytest.raises(PipelineError, match=message + r".*rollout\.vllm\.gpu_memory_utilization=0\.\d"):
        check_fit(name, model, found, USUAL, limit)
    for remedy in remedies(model, found, USUAL, limit):
        if remedy.startswith("rollout"):
            check_fit(name, model, profile(name, change, *remedy.split(" and ")), USUAL, limit)


# --- main memory

OFFLOADED = ("update.offload=optimizer", "update.zero_stage=2")


@pytest.mark.slow
def test_main_memory_that_cannot_hold_what_is_offloaded_is_refused() -> None:
    """12 bytes of optimizer and 4 of gradients per parameter, and the sleeping engine's weights."""
    model, size = known("qwen2.5-3b"), 3_085_938_688
    wanted = 16 * size + 2 * (size + 151936 * 2048)
    needed = math.ceil(wanted / 0.9 / GIB)
    assert needed == 59
    for stated, lacks in [(59, False), (58, True), (0, False)]:
        found = profile("qwen2.5-3b", *OFFLOADED, f"hardware.main_memory_gib={stated}")
        main = devices.uses(model, found, USUAL, 80 * GIB)[-1]
        assert (main.total, main.lacks) == (wanted, lacks)
    small = profile("qwen2.5-3b", *OFFLOADED, "hardware.main_memory_gib=32")
    with pytest.raises(PipelineError) as refused:
        check_fit("qwen2.5-3b", model, small, USUAL, 80 * GIB)
    told = str(refused.value)
    assert "main memory beside the GPUs needs 52.3 GiB and has 28.8 (90% of 32)" in told
    assert "\n" not in told and "hardware.main_memory_gib=59" in told and "update.offload=none" in told
    for remedy in remedies(model, small, USUAL, 80 * GIB):
        changes = [*OFFLOADED, "hardware.main_memory_gib=32", *remedy.split(" and ")]
        check_fit("qwen2.5-3b", model, profile("qwen2.5-3b", *changes), USUAL, 80 * GIB)


@pytest.mark.slow
def test_no_remedy_moves_to_main_memory_what_it_cannot_hold() -> None:
    model, limit = known("qwen2.5-3b"), 24 * GIB
    roomy, tight = (
        {remedy.split("=")[0] for remedy in remedies(model, profile("qwen2.5-3b", *changes), USUAL, limit)}
        for changes in ((), ("hardware.main_memory_gib=16",))
    )
    assert "update.offload" in roomy and "update.offload" not in tight and "update.lora.rank" in tight


def test_the_machines_own_main_memory_is_asked_at_the_start() -> None:
    found = profile("qwen2.5-3b", *OFFLOADED)
    cards = (int(79.6 * GIB),)
    assert check_profile("qwen2.5-3b", found, Machine(cards, 53 * GIB, 10_000 * GIB)) == ""
    with pytest.raises(PipelineError, match=r"needs about 52\.3 GiB of main memory .* 40\.0 GiB are free"):
        check_profile("qwen2.5-3b", found, Machine(cards, 40 * GIB, 10_000 * GIB))


def test_the_command_shows_both_turns_and_main_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    enter_shipped(tmp_path, monkeypatch)
    assert main(["qwen2.5-3b"]) == 0
    told = capsys.readouterr().out
    assert "memory of the GPU while it trains" in told and "memory of the GPU while it samples" in told
    assert "main memory beside the GPUs" in told and "of 115.2 GiB (90% of 128)" in told
    assert main(["qwen2.5-3b", "--set", "hardware.main_memory_gib=4"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
