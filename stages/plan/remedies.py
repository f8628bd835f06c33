"""What to change where a profile does not fit: single changes, each tried by computing the plan again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stages.contract.params import Params
from stages.plan.architecture import Architecture
from stages.plan.devices import MAIN, shortages
from stages.plan.engine import least
from stages.plan.memory import GIB, USABLE, zero_stage
from stages.plan.work import Workload

Try = tuple[str, Params]
UTILIZATIONS = (0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)


def remedies(model: Architecture, params: Params, work: Workload, memory: float) -> list[str]:
    """Changes with which everything fits into ``memory`` bytes a device and into the main memory that the profile
    states, least costly first; of each parameter the first that helps. Where none does alone, each with another share
    of the GPU for vLLM: it is a part of a card, and other cards are of other sizes."""
    tries = [*_of_engine(model, params), *_of_trainer(params), *_of_machine(params), *_of_lengths(params)]
    tries += [*_of_offload(params), *_of_main_memory(model, params, work, memory)]
    if not params.update.lora.rank:
        low = params.update.lora.model_copy(update={"rank": 16})
        tries.append(("update.lora.rank=16", _with(params, update={"lora": low})))

    def fitting(tries: Iterable[Try]) -> list[str]:
        fits: dict[str, str] = {}
        for name, changed in tries:
            parameter = name.split("=")[0]
            if parameter not in fits and not shortages(model, changed, work, memory):
                fits[parameter] = name
        return list(fits.values())

    both = ((f"{name} and {share}", shared) for name, changed in tries for share, shared in _of_share(changed))
    return fitting(tries) or fitting(both)


def _of_engine(model: Architecture, params: Params) -> Iterator[Try]:
    """vLLM: another cache on a CPU; asleep while the trainer works, another share of its GPU, or smaller steps."""
    hardware, settings = params.hardware, params.rollout.vllm
    if params.rollout.engine != "vllm":
        return
    if not hardware.gpus:
        for use in least(model, params, 0):
            cache = math.ceil(use.total / GIB * 10) / 10
            yield f"rollout.vllm.cpu_cache_gb={cache}", _with_vllm(params, cpu_cache_gb=cache)
        return
    if hardware.gpus == 1 and not settings.sleep:
        yield "rollout.vllm.sleep=true", _with_vllm(params, sleep=True)
    yield from _of_share(params)
    step = settings.max_num_batched_tokens // 2
    while step >= max(settings.max_num_seqs, 512):
        yield f"rollout.vllm.max_num_batched_tokens={step}", _with_vllm(params, max_num_batched_tokens=step)
        step //= 2


def _of_share(params: Params) -> Iterator[Try]:
    """Another share of its GPU for vLLM, the largest first."""
    if params.rollout.engine != "vllm" or not params.hardware.gpus:
        return
    for share in UTILIZATIONS:
        if share != params.rollout.vllm.gpu_memory_utilization:
            name = f"rollout.vllm.gpu_memory_utilization={share}"
            yield name, _with_vllm(params, gpu_memory_utilization=share)


def _of_trainer(params: Params) -> Iterator[Try]:
    update = params.update
    if not update.gradient_checkpointing:
        yield "update.gradient_checkpointing=true", _with(params, update={"gradient_checkpointing": True})
    if update.dtype == "float32":
        yield "update.dtype=bfloat16", _with(params, update={"dtype": "bfloat16"})
    for stage in range(zero_stage(update) + 1, 4) if params.hardware.trainer_gpus > 1 else ():
        yield f"update.zero_stage={stage}", _with(params, update={"zero_stage": stage})


def _of_machine(params: Params) -> Iterator[Try]:
    """More GPUs for one of both, where each has its own."""
    hardware = params.hardware
    if hardware.gpus <= 1:
        return
    for ranks in range(hardware.trainer_gpus + 1, 65):
        more: dict[str, int] = {"trainer_gpus": ranks, "gpus": hardware.gpus + ranks - hardware.trainer_gpus}
        yield f"hardware.trainer_gpus={ranks}", _with(params, hardware=more)
    for parts in (2, 4, 8):
        if parts > hardware.tensor_parallel and hardware.engine_gpus % parts == 0:
            yield f"hardware.tensor_parallel={parts}", _with(params, hardware={"tensor_parallel": parts})


def _of_lengths(params: Params) -> Iterator[Try]:
    if params.rollout.engine == "transformers":
        yield from _halved(params, "max_batch")
    yield from _halved(params, "max_total_tokens")


def _of_offload(params: Params) -> Iterator[Try]:
    """To main memory: the optimizer, in the ZeRO stage of the profile or in 1; all of it, in stage 3. Or less of it."""
    if not params.hardware.gpus:
        return
    stage = max(params.update.zero_stage, 1)
    every = ("none", "optimizer", "all")
    now = every.index(params.update.offload)
    for what in (*reversed(every[:now]), *every[now + 1 :]):
        needed = {"none": params.update.zero_stage, "optimizer": stage, "all": 3}[what]
        also = f" and update.zero_stage={needed}" if needed != params.update.zero_stage else ""
        changed = _with(params, update={"offload": what, "zero_stage": needed})
        yield f"update.offload={what}{also}", changed


def _of_main_memory(model: Architecture, params: Params, work: Workload, memory: float) -> Iterator[Try]:
    """A machine with more of it, where that is what lacks."""
    for use in shortages(model, params, work, memory):
        if use.device == MAIN:
            least = math.ceil(use.total / USABLE / GIB)
            yield f"hardware.main_memory_gib={least}", _with(params, hardware={"main_memory_gib": float(least)})


def _halved(params: Params, key: str) -> Iterator[Try]:
    """The parameter of ``rollout`` halved until it is small; a pass' tokens with the length of a trajectory."""
    value = getattr(params.rollout, key) // 2
    while value >= (1 if key == "max_batch" else 512):
        short = {"max_tokens_a_pass": min(params.update.max_tokens_a_pass, value)} if key != "max_batch" else {}
        also = "".join(f" and update.{name}={number}" for name, number in short.items())
        yield f"rollout.{key}={value}{also}", _with(params, rollout={key: value}, update=short)
        value //= 2


def _with_vllm(params: Params, **values: Any) -> Params:
    return _with(params, rollout={"vllm": params.rollout.vllm.model_copy(update=values)})


def _with(params: Params, **sections: Mapping[str, Any]) -> Params:
    changes = {name: getattr(params, name).model_copy(update=values) for name, values in sections.items()}
    return params.model_copy(update=changes)
