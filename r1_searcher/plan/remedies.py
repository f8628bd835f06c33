"""Changes that make a profile fit; each includes everything that must change with it, and was verified by checking the
parameters and recomputing the plan."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params, check
from r1_searcher.params.profiles import assignment, compose
from r1_searcher.plan.architecture import Architecture
from r1_searcher.plan.devices import MAIN, shortages
from r1_searcher.plan.engine import least
from r1_searcher.plan.memory import GIB, USABLE, zero_stage
from r1_searcher.plan.work import Workload

Remedy = tuple[str, ...]  # key=value, as `--set` takes it; the first names the remedy, the others go with it
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
        tries.append(("update.lora.rank=16",))

    def helps(remedy: Remedy) -> bool:
        try:
            changed = check(functools.reduce(compose, map(assignment, remedy), raw))
        except PipelineError:
            return False
        return not shortages(model, changed, work, memory) and here(changed)

    def fitting(tries: Iterable[Remedy]) -> list[str]:
        fits: dict[str, str] = {}
        for remedy in tries:
            name = remedy[0].partition("=")[0]
            if name not in fits and helps(remedy):
                fits[name] = " and ".join(remedy)
        return list(fits.values())

    return fitting(tries) or fitting((*remedy, *share) for remedy in tries for share in _of_share(params))


def _of_engine(model: Architecture, params: Params) -> Iterator[Remedy]:
    """vLLM: another cache on a CPU; if asleep while the trainer works, another share of its GPU or smaller steps."""
    hardware, settings = params.hardware, params.rollout.vllm
    if not params.rollout.kind.fixed_cache:
        return
    if not hardware.gpus:
        for use in least(model, params, 0):
            yield (f"rollout.vllm.cpu_cache_gb={math.ceil(use.total / GIB * 10) / 10}",)
        return
    if hardware.gpus == 1 and not settings.sleep:
        yield ("rollout.vllm.sleep=true",)
    yield from _of_share(params)
    for step in _halves(settings.max_num_batched_tokens, max(settings.max_num_seqs, 512)):
        yield (f"rollout.vllm.max_num_batched_tokens={step}",)


def _of_share(params: Params) -> Iterator[Remedy]:
    """Another share of its GPU for vLLM, the largest first."""
    if params.rollout.kind.fixed_cache and params.hardware.gpus:
        for share in UTILIZATIONS:
            if share != params.rollout.vllm.gpu_memory_utilization:
                yield (f"rollout.vllm.gpu_memory_utilization={share}",)


def _of_trainer(params: Params) -> Iterator[Remedy]:
    update = params.update
    if not update.gradient_checkpointing:
        yield ("update.gradient_checkpointing=true",)
    if update.dtype == "float32":
        yield ("update.dtype=bfloat16",)
    for stage in range(zero_stage(update) + 1, 4) if params.hardware.trainer_gpus > 1 else ():
        yield (f"update.zero_stage={stage}",)


def _of_gpus(model: Architecture, params: Params) -> Iterator[Remedy]:
    """If each role has its own GPUs: one for the reference policy, more ranks, or more per engine.

    They come from the machine's unused GPUs or from fewer engines, otherwise from a larger machine.
    """
    hardware, engines, parallel = params.hardware, params.workers.engines, params.hardware.tensor_parallel
    if hardware.gpus <= 1:
        return
    free = hardware.gpus - hardware.trainer_gpus - hardware.engine_gpus - hardware.reference_gpus

    def machine(more: int) -> Remedy:
        return (f"hardware.gpus={hardware.gpus + more - free}",) if more > free else ()

    if params.update.kl_coefficient > 0 and not hardware.reference_gpus:
        yield ("hardware.reference_gpus=1", "workers.reference=1", *machine(1))
    for fewer in range(1, engines):
        left = (f"hardware.engine_gpus={(engines - fewer) * parallel}", f"workers.engines={engines - fewer}")
        yield (*left, *_ranks(hardware.trainer_gpus + fewer * parallel))
    for more in range(1, MOST_RANKS + 1 - hardware.trainer_gpus):
        yield (*_ranks(hardware.trainer_gpus + more), *machine(more))
    for parts in (2, 4, 8):
        whole = max(hardware.engine_gpus, parts)
        if parts > parallel and not model.heads % parts and not whole % parts:  # vLLM divides whole heads
            gpus = (f"hardware.engine_gpus={whole}",) if whole > hardware.engine_gpus else ()
            workers = f"workers.engines={whole // parts}"
            yield (f"hardware.tensor_parallel={parts}", *gpus, workers, *machine(whole - hardware.engine_gpus))


def _ranks(number: int) -> Remedy:
    """The trainer with that many GPUs, one rank each."""
    return f"hardware.trainer_gpus={number}", f"workers.ranks={number}"


def _of_lengths(params: Params) -> Iterator[Remedy]:
    """Smaller batches; shorter trajectories, and the tokens of a pass with them."""
    if not params.rollout.kind.fixed_cache:
        for rows in _halves(params.rollout.max_batch, 1):
            yield (f"rollout.max_batch={rows}",)
    for tokens in _halves(params.rollout.max_total_tokens, 512):
        also = (f"update.max_tokens_a_pass={tokens}",) if params.update.max_tokens_a_pass > tokens else ()
        yield (f"rollout.max_total_tokens={tokens}", *also)


def _halves(value: int, least: int) -> Iterator[int]:
    """Half of a value, and half of that, down to the least."""
    while (value := value // 2) >= least:
        yield value


def _of_offload(params: Params) -> Iterator[Remedy]:
    """Offload the optimizer (in the profile's ZeRO stage or in 1) or everything (in stage 3); or offload less."""
    if not params.hardware.gpus:
        return
    stages = {"none": params.update.zero_stage, "optimizer": max(params.update.zero_stage, 1), "all": 3}
    every = list(stages)
    now = every.index(params.update.offload)
    for what in (*reversed(every[:now]), *every[now + 1 :]):
        also = (f"update.zero_stage={stages[what]}",) if stages[what] != params.update.zero_stage else ()
        yield (f"update.offload={what}", *also)


def _of_main_memory(model: Architecture, params: Params, work: Workload, memory: float) -> Iterator[Remedy]:
    """If main memory is short: a machine with more of it, or a compressed dense index."""
    for use in shortages(model, params, work, memory):
        if use.device == MAIN:
            yield (f"hardware.main_memory_gib={math.ceil(use.total / USABLE / GIB)}",)
            if params.index.dense and params.index.dense.kind != "ivfpq":
                yield ("index.dense.kind=ivfpq",)
