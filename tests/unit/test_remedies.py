"""The plan's remedies for a profile that cannot fit: each, as printed, is accepted by the same command."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from shipped_profiles import enter_shipped
from shipped_profiles import shipped_profile as profile

from r1_searcher.errors import PipelineError
from r1_searcher.plan.check import check_profile
from r1_searcher.plan.machine import Machine
from r1_searcher.plan.memory import GIB
from stages.plan.__main__ import main

NODE = Machine(gpus=(int(79.6 * GIB),) * 8, memory=1000 * GIB, disk=10_000 * GIB)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Return the command's message for a profile with some settings and arguments; empty if it accepts them."""
    enter_shipped(tmp_path, monkeypatch)

    def ask(name: str, settings: Sequence[str], arguments: Sequence[str]) -> str:
        status = main([name, *(word for one in settings for word in ("--set", one)), *arguments])
        error = capsys.readouterr().err
        assert (status == 0) == (not error) and error.count("\n") <= 1
        return error

    return ask


NO_REFERENCE = ("hardware.reference_gpus=0", "workers.reference=0")
UNOFFLOADED = ("hardware.main_memory_gib=16", "update.offload=optimizer")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "arguments", "named"),
    [
        ("llama3.1-8b-instruct", NO_REFERENCE, (), {"hardware.reference_gpus", "hardware.trainer_gpus"}),
        ("llama3.1-8b-instruct", ("update.gradient_checkpointing=false",), (), {"update.gradient_checkpointing"}),
        ("llama3.1-8b-instruct", (), ("--memory-gib", "48"), set()),
        ("qwen2.5-7b-base", ("update.zero_stage=0",), (), {"update.zero_stage", "hardware.trainer_gpus"}),
        ("qwen2.5-7b-base", ("update.max_tokens_a_pass=40000",), (), {"hardware.engine_gpus", "hardware.trainer_gpus"}),
        ("qwen2.5-7b-base", ("rollout.vllm.gpu_memory_utilization=0.1",), (), {"hardware.tensor_parallel"}),
        ("qwen2.5-7b-base", ("rollout.max_total_tokens=60000",), (), {"rollout.max_total_tokens"}),
        ("qwen2.5-7b-base", UNOFFLOADED, (), {"hardware.main_memory_gib", "update.offload"}),
        ("qwen2.5-7b-base", ("hardware.gpus=16",), ("--memory-gib", "64"), {"hardware.trainer_gpus"}),
        ("qwen2.5-3b", ("rollout.vllm.sleep=false",), (), {"rollout.vllm.sleep"}),
        ("qwen2.5-3b", (), ("--memory-gib", "24"), {"update.offload", "update.lora.rank"}),
        ("qwen2.5-0.5b", ("rollout.max_total_tokens=32000",), (), set()),
        ("qwen2.5-0.5b", ("rollout.engine=transformers",), (), {"rollout.max_batch"}),
        ("smollm2-135m-instruct", ("rollout.vllm.cpu_cache_gb=0.01",), (), {"rollout.vllm.cpu_cache_gb"}),
        ("released-llama-8b", (), ("--memory-gib", "60"), {"rollout.max_batch"}),
    ],
)
def test_every_remedy_is_accepted_by_the_same_command_as_it_is_printed(
    name: str,
    settings: tuple[str, ...],
    arguments: tuple[str, ...],
    named: set[str],
    told: Callable[..., str],
) -> None:
    error = told(name, settings, arguments)
    found = re.search(r"\(any of these fits: (.*)\)\n$", error)
    assert found is not None, error
    helps = found[1].split("; ")
    assert named <= {remedy.split("=")[0] for remedy in helps}
    for remedy in helps:
        assert told(name, [*settings, *remedy.split(" and ")], arguments) == "", remedy


@pytest.mark.slow
def test_the_machine_at_hand_holds_the_remedies_that_are_named_at_the_start() -> None:
    """`make train` checks this machine: more GPUs or more main memory than it has are no remedies."""
    name = "llama3.1-8b-instruct"
    changes = [*NO_REFERENCE, "hardware.main_memory_gib=64", "update.offload=optimizer"]
    for machine, lacks in [(NODE, "hardware.trainer_gpus"), (Machine(NODE.gpus, 64 * GIB, NODE.disk), "hardware.main")]:
        with pytest.raises(PipelineError) as refused:
            check_profile(name, profile(name, *changes), machine)
        helps = str(refused.value).partition("any of these fits: ")[2].rstrip(")").split("; ")
        assert not any(lacks in remedy for remedy in helps)
        for remedy in helps:
            check_profile(name, profile(name, *changes, *remedy.split(" and ")), machine)
