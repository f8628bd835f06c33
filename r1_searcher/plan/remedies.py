"""Changes that make a profile fit; each includes everything that must change with it, and was verified by checking the
parameters and recomputing the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.params import Params
from r1_searcher.plan.architecture import Architecture
from r1_searcher.plan.devices import MAIN, shortages
from r1_searcher.plan.engine import least
from r1_searcher.plan.memory import GIB, USABLE, zero_stage
from r1_searcher.plan.work import Workload

ParamsChange = dict[str, Any]  # parameter to value; the first names the remedy, the others go with it
UTILIZATIONS = (0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
MOST_RANKS = 64


def remedies(
    model: Architecture,
    params: Params,
    work: Workload,
    memory: float,
    *,
    here: Callable[[Params], bool] = lambda changed: True,
) -> list[str]:
    """Return changes that the parameters' check and ``here`` accept, and with which everything fits ``memory`` bytes
    per device and the stated main memory.

    Cheapest first, and of each kind the first that helps. If none helps alone, each is combined with another share of
    the GPU for vLLM, because shares depend on the card's size.
    """
    raw = params.model_dump(mode="json")
    tries = [*_of_engine(model, params), *_of_trainer(params), *_of_gpus(model, params), *_of_lengths(params)]
    tries += [*_of_offload(params), *_of_main_memory(model, params, work, memory)]
    if not params.update.lora.rank:
        tries.append({"update.lora.rank": 16})

    def fitting(tries: Iterable[ParamsChange]) -> list[str]:
        fits: dict[str, str] = {}
        for change in tries:
            name = next(iter(change))
            if name not in fits and helps(_changed(raw, change)):
                fits[name] = " and ".join(f"{key}={_written(value)}" for key, value in change.items())
        return list(fits.values())

    def helps(changed: Params | None) -> bool:
        return changed is not None and not shortages(model, changed, work, memory) and here(changed)

    return fitting(tries) or fitting(change | share for change in tries for share in _of_share(params))


def _changed(raw: Mapping[str, Any], change: ParamsChange) -> Params | None:
    """Return the changed parameters, or None if they are refused."""
    whole = dict(raw)
    for key, value in change.items():
        *path, last = key.split(".")
        section = whole
        for part in path:
            section[part] = dict(section[part])
            section = section[part]
        section[last] = value
    try:
        return contract.check(whole)
    except PipelineError:
        return None


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_engine(model: Architecture, params: Params) -> Iterator[ParamsChange]:
    """Yield vLLM's changes: another cache on a CPU; on a GPU sleeping while the trainer works, another share, or
    smaller steps."""
    hardware, settings = params.hardware, params.rollout.vllm
    if not params.rollout.kind.fixed_cache:
        return
    if not hardware.gpus:
        for use in least(model, params, 0):
            yield {"rollout.vllm.cpu_cache_gb": math.ceil(use.total / GIB * 10) / 10}
        return
    if hardware.gpus == 1 and not settings.sleep:
        yield {"rollout.vllm.sleep": True}
    yield from _of_share(params)
    step = settings.max_num_batched_tokens // 2
    while step >= max(settings.max_num_seqs, 512):
        yield {"rollout.vllm.max_num_batched_tokens": step}
        step //= 2


def _of_share(params: Params) -> Iterator[ParamsChange]:
    """Yield other shares of the GPU for vLLM, the largest first."""
    if not params.rollout.kind.fixed_cache or not params.hardware.gpus:
        return
    for share in UTILIZATIONS:
        if share != params.rollout.vllm.gpu_memory_utilization:
            yield {"rollout.vllm.gpu_memory_utilization": share}


def _of_trainer(params: Params) -> Iterator[ParamsChange]:
    update = params.update
    if not update.gradient_checkpointing:
        yield {"update.gradient_checkpointing": True}
    if update.dtype == "float32":
        yield {"update.dtype": "bfloat16"}
    for stage in range(zero_stage(update) + 1, 4) if params.hardware.trainer_gpus > 1 else ():
        yield {"update.zero_stage": stage}


def _of_gpus(model: Architecture, params: Params) -> Iterator[ParamsChange]:
    """Yield a GPU for the reference policy, more ranks, or more GPUs per engine, if each has its own.

    They come from the machine's unused GPUs or from fewer engines, else from a larger machine.
    """
    hardware, engines = params.hardware, params.workers.engines
    if hardware.gpus <= 1:
        return
    free = hardware.gpus - hardware.trainer_gpus - hardware.engine_gpus - hardware.reference_gpus
    if params.update.kl_coefficient > 0 and not hardware.reference_gpus:
        yield {"hardware.reference_gpus": 1, "workers.reference": 1, **_machine(hardware.gpus, free, 1)}
    for fewer in range(1, engines):
        left = (engines - fewer) * hardware.tensor_parallel
        ranks = hardware.trainer_gpus + fewer * hardware.tensor_parallel
        yield {"hardware.engine_gpus": left, "workers.engines": engines - fewer, **_ranks(ranks)}
    for ranks in range(hardware.trainer_gpus + 1, MOST_RANKS + 1):
        yield {**_ranks(ranks), **_machine(hardware.gpus, free, ranks - hardware.trainer_gpus)}
    for parts in (2, 4, 8):
        if parts <= hardware.tensor_parallel or model.heads % parts:  # vLLM divides whole heads
            continue
        if hardware.engine_gpus % parts == 0:
            yield {"hardware.tensor_parallel": parts, "workers.engines": hardware.engine_gpus // parts}
        elif hardware.engine_gpus < parts:
            more = _machine(hardware.gpus, free, parts - hardware.engine_gpus)
            one = {"hardware.engine_gpus": parts, "workers.engines": 1}
            yield {"hardware.tensor_parallel": parts, **one, **more}


def _ranks(number: int) -> ParamsChange:
    """Return the change to ``number`` trainer GPUs, one rank each."""
    return {"hardware.trainer_gpus": number, "workers.ranks": number}


def _machine(gpus: int, free: int, more: int) -> ParamsChange:
    """Return the change to a machine with enough GPUs for ``more``; empty if they are free."""
    return {"hardware.gpus": gpus + more - free} if more > free else {}


def _of_lengths(params: Params) -> Iterator[ParamsChange]:
    if not params.rollout.kind.fixed_cache:
        yield from _halved(params, "max_batch")
    yield from _halved(params, "max_total_tokens")


def _of_offload(params: Params) -> Iterator[ParamsChange]:
    """Yield changes of offloading to main memory: the optimizer, in the profile's ZeRO stage or 1; everything, in stage
    3; or less."""
    if not params.hardware.gpus:
        return
    stage = max(params.update.zero_stage, 1)
    every = ("none", "optimizer", "all")
    now = every.index(params.update.offload)
    for what in (*reversed(every[:now]), *every[now + 1 :]):
        needed = {"none": params.update.zero_stage, "optimizer": stage, "all": 3}[what]
        also = {"update.zero_stage": needed} if needed != params.update.zero_stage else {}
        yield {"update.offload": what, **also}


def _of_main_memory(model: Architecture, params: Params, work: Workload, memory: float) -> Iterator[ParamsChange]:
    """Yield a machine with more main memory if that is short, or a dense index of codes."""
    for use in shortages(model, params, work, memory):
        if use.device == MAIN:
            yield {"hardware.main_memory_gib": math.ceil(use.total / USABLE / GIB)}
            if params.index.dense and params.index.dense.kind != "ivfpq":
                yield {"index.dense.kind": "ivfpq"}


def _halved(params: Params, key: str) -> Iterator[ParamsChange]:
    """Yield the parameter of ``rollout`` halved until it is small; a pass's tokens shrink with a trajectory's
    length."""
    value, longest = getattr(params.rollout, key) // 2, params.update.max_tokens_a_pass
    while value >= (1 if key == "max_batch" else 512):
        short = {"update.max_tokens_a_pass": value} if key != "max_batch" and longest > value else {}
        yield {f"rollout.{key}": value, **short}
        value //= 2
