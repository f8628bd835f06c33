"""The plan: parameters and bytes against hand-worked figures, refusals, and remedies."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from shipped_profiles import ROOT, enter_shipped
from shipped_profiles import shipped_profile as profile

from flows.workers_local import gpus_of
from r1_searcher.errors import PipelineError
from r1_searcher.plan import memory, work
from r1_searcher.plan.architecture import known, of_config, of_source
from r1_searcher.plan.check import check_fit, check_profile
from r1_searcher.plan.machine import Machine, this_machine
from r1_searcher.plan.memory import GIB
from r1_searcher.plan.remedies import remedies
from r1_searcher.plan.units import duration, size
from stages.plan.__main__ import main

SHIPPED = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))
NODE = Machine(gpus=(int(79.6 * GIB),) * 8, memory=1000 * GIB, disk=10_000 * GIB)
BARE = Machine(gpus=(), memory=1000 * GIB, disk=10_000 * GIB)
USUAL = work.Workload()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-3b", 3_085_938_688),
        ("qwen2.5-7b", 7_615_616_512),
        ("llama-3.1-8b", 8_030_261_248),
        ("smollm2-135m", 134_515_008),
    ],
)
def test_parameters_are_the_published_ones(name: str, published: int) -> None:
    assert known(name).parameters == published


def test_the_cache_by_hand() -> None:
    assert known("qwen2.5-7b").cache_bytes(2) == 57_344  # 28 layers, keys and values, 4 heads of 128, 2 bytes
    assert known("llama-3.1-8b").cache_bytes(2) == 131_072


def test_a_token_meets_only_its_experts() -> None:
    from transformers import Qwen3MoeConfig

    figures = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "moe_intermediate_size": 10}
    heads = {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16}
    config = Qwen3MoeConfig(**figures, **heads, num_experts=8, num_experts_per_tok=2)
    found = of_config(config, "experts")
    one_expert, outside = 3 * 24 * 10, 2 * 50 * 24 + 24  # embeddings, last norm
    attention = 24 * (2 * 48 + 2 * 16) + 2 * 16 + 2 * 24  # with norms of queries and keys
    assert found.parameters == outside + 2 * (attention + 24 * 8 + 8 * one_expert)  # and a router
    assert found.parameters - found.active == 2 * 6 * one_expert
    assert found.feed_forward == 20 and not found.tied
    assert work.forward_operations(found, 0) == 2 * found.active


def test_a_trainer_rank_of_the_papers_qwen_by_hand() -> None:
    parts = memory.trainer(known("qwen2.5-7b"), profile("qwen2.5-7b-base"), USUAL).parts
    size = 7_615_616_512
    assert parts["weights"] == 2 * size  # whole on every rank below stage 3
    assert parts["gradients"] == 4 * size // 4 and parts["optimizer"] == 12 * size // 4
    assert parts["gradient bucket"] == 10**9
    layer = 2 * (6 * 3584 + 2 * (3584 + 512) + 512 + 3584 + 4 * 18944)
    assert parts["activations"] == 29000 * (28 * 3584 * 2 + layer)
    assert "reference policy" not in parts  # KL is 0
    # 300 of 1,259 tokens are the policy's; a pass holds more than one longest trajectory's 9 × 512
    assert parts["output head"] == int(29000 * 300 / 1259) * 152064 * 14


@pytest.mark.slow
def test_zero_divides_what_it_says() -> None:
    model = known("llama-3.1-8b")
    uses = [
        memory.trainer(model, profile("llama3.1-8b-instruct", f"update.zero_stage={stage}"), USUAL).parts
        for stage in range(4)
    ]
    size = model.parameters
    assert [use["weights"] for use in uses] == [2 * size] * 3 + [2 * size // 5]
    assert [use["gradients"] for use in uses] == [4 * size] * 2 + [4 * size // 5] * 2
    assert [use["optimizer"] for use in uses] == [12 * size // 5] * 4  # bfloat16 at stage 0 runs as stage 1
    plain = memory.trainer(model, profile("laptop"), USUAL).parts
    assert (plain["weights"], plain["gradients"], plain["optimizer"]) == (4 * size, 4 * size, 8 * size)


LOW = ("update.lora.rank=16",)


@pytest.mark.slow
def test_adapters_by_hand() -> None:
    """Only adapters have gradients and an optimizer, and the base is its own reference."""
    qwen = known("qwen2.5-7b")
    inputs_and_outputs = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)
    adapters = 28 * 16 * inputs_and_outputs
    found = profile("qwen2.5-7b-base", *LOW, "update.kl_coefficient=0.1")
    assert qwen.adapter_parameters(found.update.lora) == adapters == 40_370_176
    parts = memory.trainer(qwen, found, USUAL).parts
    assert parts["weights"] == 2 * (7_615_616_512 + adapters)
    assert parts["gradients"] == 4 * adapters // 4 and parts["optimizer"] == 12 * adapters // 4
    assert parts["gradient bucket"] == 2 * adapters and "reference policy" not in parts
    assert (
        "reference policy" in memory.trainer(qwen, profile("qwen2.5-7b-base", "update.kl_coefficient=0.1"), USUAL).parts
    )
    layer = 2 * (6 * 3584 + 2 * (3584 + 512) + 512 + 3584 + 4 * 18944)
    assert parts["activations"] == 29000 * (28 * 3584 * 2 + layer + 2 * 16 * 7)
    some = profile("qwen2.5-7b-base", *LOW, "update.lora.targets=[q_proj, v_proj]").update.lora
    assert qwen.adapter_parameters(some) == 28 * 16 * (2 * 3584 + 3584 + 512)
    # Frozen weights need no gradient: forward, repeated forward, and half a backward pass.
    alone = profile("qwen2.5-7b-base", *LOW)
    whole = work.operations_a_token(qwen, profile("qwen2.5-7b-base").update, 1000)
    assert work.operations_a_token(qwen, alone.update, 1000) == pytest.approx(whole * 3 / 4)
    state = work.disk(qwen, alone, USUAL).parts["policies and trainer state"]
    assert state == 2 * (2 * 7_615_616_512 + 12 * adapters + 2 * (7_615_616_512 + adapters))  # policy, state, base


def test_adapters_are_counted_as_the_library_makes_them(tmp_path: Path) -> None:
    from fixtures_update import make_policy, update_params

    from r1_searcher.update import lora
    from r1_searcher.update.model import load_model

    settings = update_params(lora={"rank": 3, "alpha": 6, "targets": "all-linear"})
    model = load_model(make_policy(tmp_path / "policy"), settings, trained=True)
    planned = of_config(model.config, "config.json").adapter_parameters(settings.lora)
    lora.add(model, settings.lora, 0)
    assert planned == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.slow
def test_what_is_offloaded_leaves_the_gpus_for_main_memory() -> None:
    qwen, size = known("qwen2.5-7b"), 7_615_616_512
    stay = memory.trainer(qwen, profile("qwen2.5-7b-base"), USUAL).parts
    some = profile("qwen2.5-7b-base", "update.offload=optimizer")
    parts = memory.trainer(qwen, some, USUAL).parts
    assert parts == {name: value for name, value in stay.items() if name not in ("optimizer", "gradients")}
    assert memory.offloaded(qwen, some) == {"optimizer": 12 * size, "gradients": 4 * size}
    first = profile("qwen2.5-7b-base", "update.offload=optimizer", "update.zero_stage=1")
    assert memory.trainer(qwen, first, USUAL).parts["gradients"] == 4 * size  # summed on the GPU
    assert memory.offloaded(qwen, first) == {"optimizer": 12 * size}
    everything = profile("qwen2.5-7b-base", "update.offload=all", "update.zero_stage=3")
    assert memory.trainer(qwen, everything, USUAL).parts["weights"] == 2 * 10**9
    assert memory.offloaded(qwen, everything)["weights"] == 2 * size
    here = profile("laptop", "update.offload=optimizer", "update.zero_stage=1")
    assert memory.offloaded(known("smollm2-135m"), here) == {}  # on a CPU everything is in main memory
    assert memory.trainer(known("smollm2-135m"), here, USUAL).parts["optimizer"] == 12 * 134_515_008


@pytest.mark.slow
def test_offloading_and_adapters_are_remedies_that_help() -> None:
    model, limit = known("qwen2.5-3b"), 24 * GIB
    helps = remedies(model, profile("qwen2.5-3b"), USUAL, limit)
    assert {remedy.split("=")[0] for remedy in helps} >= {"update.offload", "update.lora.rank"}
    for remedy in helps:
        check_fit("qwen2.5-3b", model, profile("qwen2.5-3b", *remedy.split(" and ")), USUAL, limit)


def test_padding_takes_time() -> None:
    model, a100 = known("qwen2.5-7b"), work.DEVICES["a100"]
    packed, padded = (
        work.iteration(model, profile("qwen2.5-7b-base", f"update.layout={layout}"), USUAL, a100,
                       stage="stage2", at_a_time=64)
        for layout in ("packed", "padded")
    )  # fmt: skip
    assert padded.update_seconds == pytest.approx(1.1 * packed.update_seconds)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_is_planned_and_fits(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    enter_shipped(tmp_path, monkeypatch)
    assert main([name]) == 0, capsys.readouterr().err
    assert re.search(r"parameters\nmemory of .* [GM]iB\n", capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "beside"), [("qwen2.5-7b-base", 4), ("llama3.1-8b-instruct", 5)])
def test_what_cannot_fit_is_refused_and_what_is_named_helps(name: str, beside: int) -> None:
    found = profile(name, "update.gradient_checkpointing=false")
    model, limit = of_source(found.base_model), 80 * GIB
    with pytest.raises(PipelineError, match=rf"each of {beside} trainer GPUs needs .*gradient_checkpointing=true"):
        check_fit(name, model, found, USUAL, limit)
    helps = remedies(model, found, USUAL, limit)
    assert len(helps) >= 2
    for remedy in helps:
        changes = ["update.gradient_checkpointing=false", *remedy.split(" and ")]
        check_fit(name, model, profile(name, *changes), USUAL, limit)


@pytest.mark.slow
def test_a_small_gpu_is_refused_by_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    enter_shipped(tmp_path, monkeypatch)
    assert main(["qwen2.5-7b-base", "--memory-gib", "8"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot fit" in error and "take a smaller model" in error


def test_no_gpu_is_said_at_the_start_with_what_to_use() -> None:
    with pytest.raises(PipelineError, match=r"needs 1 GPU of 24 GB, and this machine has none .*PROFILE=laptop"):
        check_profile("qwen2.5-0.5b", profile("qwen2.5-0.5b"), BARE)
    with pytest.raises(PipelineError, match=r"needs 8 GPUs of 80 GB, and here is 24 GiB"):
        check_profile("qwen2.5-7b-base", profile("qwen2.5-7b-base"), Machine((24 * GIB,), 64 * GIB, 1000 * GIB))
    assert check_profile("qwen2.5-3b", profile("qwen2.5-3b"), NODE) == ""  # 80 GB shows as 79.6 GiB


@pytest.mark.parametrize("name", ["qwen2.5-7b-base", "llama3.1-8b-instruct"])
def test_the_papers_profiles_begin_on_a_node_and_use_all_that_they_name(name: str) -> None:
    found = profile(name)
    assert check_profile(name, found, NODE) == ""
    roles = [("trainer", rank) for rank in range(found.workers.ranks)]
    roles += [("engine", number) for number in range(found.workers.engines)]
    roles += [("reference", 0)] * found.workers.reference
    used = [gpu for role, number in roles for gpu in gpus_of(found, role, number, None).split(",")]
    assert used == [str(gpu) for gpu in range(8)]


def test_too_little_memory_or_disk_on_a_cpu() -> None:
    small = profile("smollm2-135m-instruct")
    assert check_profile("smollm2-135m-instruct", small, BARE) == ""
    with pytest.raises(PipelineError, match=r"needs about 6\.2 GiB of memory, and 2\.0 GiB are free"):
        check_profile("smollm2-135m-instruct", small, Machine((), 2 * GIB, 1000 * GIB))
    assert "GiB are free here" in check_profile("smollm2-135m-instruct", small, Machine((), 64 * GIB, GIB))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hardware.gpu_memory_gib=0", "must be above 0"),
        ("hardware.trainer_gpus=7", "need 11 GPUs of 8"),
        ("hardware.tensor_parallel=3", "not a multiple of tensor_parallel"),
        ("hardware.gpus=1", "one GPU is shared"),
        ("hardware.reference_gpus=1", "need 9 GPUs of 8"),
        ("workers.place=inside", "place inside has one process for all"),
        ("workers.reference=1", r"workers\.reference \(1\) must be hardware\.reference_gpus \(0\)"),
        ("rollout.engine=transformers", "needs rollout.engine vllm"),
    ],
)
def test_hardware_must_add_up(change: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        profile("qwen2.5-7b-base", change)


def test_an_iteration_by_hand() -> None:
    model, found = known("qwen2.5-7b"), profile("qwen2.5-7b-base")
    one = work.iteration(model, found, USUAL, work.DEVICES["a100"], stage="stage2", at_a_time=512)
    assert one.trajectories == 1024 and one.tokens == pytest.approx(1024 * 1259)  # 200 + 300 + 2.2 × 3 × 115
    # forward, backward (twice a forward), recomputed forward; 2 a parameter, attention over half the length
    a_token = 4 * (2 * 7_615_616_512 + 2 * 28 * 3584 * 1259)
    assert one.update_seconds == pytest.approx(a_token * 1024 * 1259 / (4 * 312e12 * 0.35))
    # two engines of two GPUs, 512 rows each: all at once, 300 steps, limited by operations
    matrices = 7_615_616_512 - 152064 * 3584
    assert one.decode_seconds == pytest.approx(300 * 512 * 2 * matrices / (2 * 312e12 * 0.5))
    # 64 rows each: eight times 300 steps, limited by memory bandwidth
    few = work.iteration(model, found, USUAL, work.DEVICES["a100"], stage="stage2", at_a_time=64)
    step = (2 * matrices + 64 * 57_344 * 1259 / 2) / (2 * 2.039e12 * 0.5)
    assert few.decode_seconds == pytest.approx(8 * 300 * step)


def test_disk_by_hand() -> None:
    parts = work.disk(known("qwen2.5-7b"), profile("qwen2.5-7b-base"), USUAL).parts
    state = (2 + 12) * 7_615_616_512
    assert parts["policies and trainer state"] == 2 * state
    assert parts["checkpoints in the store"] == (1 + 7) * state  # 6 and 128 iterations, every 20, and at the end


CONFIG: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.mark.slow
def test_a_folders_own_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert of_source(profile("laptop").base_model, tmp_path).parameters == 494_032_768
    for broken, message in [
        ({"model_type": "mamba"}, "no model to plan could be opened: .*'MambaConfig' object has no attribute"),
        (CONFIG | {"hidden_size": "wide"}, r"no config\.json could be opened"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(broken))
        with pytest.raises(PipelineError, match=message):
            of_source(profile("laptop").base_model, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(PipelineError, match=r"no config\.json could be opened"):
        of_source(profile("laptop").base_model, tmp_path)
    with pytest.raises(PipelineError, match="--model FOLDER"):
        of_source(profile("laptop", "base_model.source=someone/else").base_model)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [(None, 2), ("0", 1), ("", 0), ("-1", 0), ("0,1", 2)],
    ids=["unset", "one", "none", "no", "two"],
)
def test_gpus_are_the_drivers(visible: str | None, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81559\necho 81559\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert this_machine().gpus == (81559 * 2**20,) * gpus
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert this_machine().gpus == ()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 ms"), (0.0421, "42 ms"), (0.5, "500 ms"), (3.14, "3.1 s"), (42, "42 s"), (90, "1.5 min"),
     (3599, "60.0 min"), (5400, "1.5 h"), (7.2e6, "2,000.0 h")],
)  # fmt: skip
def test_a_duration_is_said_in_a_unit_that_shows_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (12, "12 B"), (2**10, "1.0 KiB"), (36 * 2**20, "36.0 MiB"), (102 * 2**20, "102.0 MiB"),
     (307 * 2**20, "0.3 GiB"), (80 * GIB, "80.0 GiB")],
)  # fmt: skip
def test_a_size_is_said_in_a_unit_that_shows_it(number: float, said: str) -> None:
    assert size(number) == said


@pytest.mark.parametrize("name", ["laptop", "smoke"])
def test_a_small_profiles_plan_shows_no_zeros_and_counts_the_base_models_training(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    enter_shipped(tmp_path, monkeypatch)
    assert main([name]) == 0
    said = capsys.readouterr().out
    assert not re.search(r"(?<![\d.])0\.0+ (h|min|s|GiB|MiB)\b", said), said
    tiny = profile(name).base_model.tiny
    assert f"base model: {tiny.tokens + tiny.anneal_tokens:,} tokens of training" in said


def test_the_base_models_training_by_hand() -> None:
    found, core = profile("laptop"), work.DEVICES["cpu-core"]
    model, tiny, limit = of_source(found.base_model), found.base_model.tiny, found.rollout.max_total_tokens
    a_token = 3 * (2 * model.parameters + 2 * tiny.layers * tiny.hidden * limit)
    expected = a_token * (tiny.tokens + tiny.anneal_tokens) / (found.threads * core.flops * 0.1)
    assert work.base_training_seconds(model, found, core) == pytest.approx(expected)
    assert work.base_training_seconds(model, profile("smollm2-135m-instruct"), core) == 0
