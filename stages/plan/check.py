"""Whether a profile can run: in the memory that it names, and on the machine at hand."""

from __future__ import annotations

from stages.contract.errors import PipelineError
from stages.contract.params import Hardware, Params
from stages.plan import memory
from stages.plan.architecture import Architecture, of_source
from stages.plan.machine import Machine
from stages.plan.memory import GIB, USABLE, Use
from stages.plan.work import Workload, disk

SMALL = "PROFILE=laptop and PROFILE=smoke need none, PROFILE=smollm2-135m-instruct trains a real model without one"
SOLD = 0.97  # a card that is sold with 80 GB shows 79.6 GiB


def check_profile(name: str, params: Params, machine: Machine) -> str:
    """``PipelineError`` where the profile ``name`` cannot run on ``machine``, or in the memory that it names; what to
    use instead is said. Returns a warning, empty where there is nothing to warn of.

    A model whose size is not known is not judged where no GPU is asked for.
    """
    if params.hardware.gpus:
        _check_gpus(name, params.hardware, machine)
    try:
        model = of_source(params.base_model)
    except PipelineError:
        if params.hardware.gpus:
            raise
        return ""
    work = Workload()
    if params.hardware.gpus:
        check_fit(name, model, params, work, params.hardware.gpu_memory_gib * GIB)
    _check_machine(name, params, memory.uses(model, params, work), machine)
    needed = disk(model, params, work).total
    if needed <= machine.disk:
        return ""
    # Not refused: a run that goes on has some of it already.
    return (
        f"profile {name} writes about {needed / GIB:.0f} GiB in all, and {machine.disk / GIB:.0f} GiB are free here "
        "(a larger train.stage1.checkpoint_every and train.stage2.checkpoint_every keep less)"
    )


def check_fit(name: str, model: Architecture, params: Params, work: Workload, limit: float) -> None:
    """``PipelineError`` where a device of ``limit`` bytes lacks memory, with the changes that help."""
    for use in memory.uses(model, params, work):
        if use.total > limit * USABLE:
            helps = memory.remedies(model, params, work, limit)
            raise PipelineError(
                f"{name} cannot fit: {use.device} needs {use.total / GIB:.1f} GiB and has {limit * USABLE / GIB:.1f} "
                f"({USABLE:.0%} of {limit / GIB:g})",
                where="plan",
                fix=f"any of these fits: {'; '.join(helps)}"
                if helps
                else "no single change fits: take a smaller model",
            )


def _check_machine(name: str, params: Params, uses: list[Use], machine: Machine) -> None:
    """Main memory, where the run is on the CPU."""
    if params.hardware.gpus:
        return
    # The engine's cache grows only as far as trajectories do; what must be there is the rest.
    wanted = sum(use.total - use.parts.get("engine's KV cache", 0) for use in uses)
    if wanted > machine.memory:
        raise PipelineError(
            f"profile {name} needs about {wanted / GIB:.1f} GiB of memory, and {machine.memory / GIB:.1f} GiB are free",
            where="hardware",
            fix=f"`python -m stages.plan {name}` says for what; make rollout.max_batch or rollout.max_total_tokens "
            "smaller, or use PROFILE=laptop",
        )


def _check_gpus(name: str, needed: Hardware, machine: Machine) -> None:
    wanted = f"{needed.gpus} GPU{'s' * (needed.gpus > 1)} of {needed.gpu_memory_gib:g} GB"
    if not machine.gpus:
        raise PipelineError(f"profile {name} needs {wanted}, and this machine has none", where="hardware", fix=SMALL)
    if len(machine.gpus) < needed.gpus or min(machine.gpus) < SOLD * needed.gpu_memory_gib * GIB:
        here = ", ".join(f"{memory / GIB:.0f} GiB" for memory in machine.gpus)
        raise PipelineError(
            f"profile {name} needs {wanted}, and here is {here}",
            where="hardware",
            fix="smaller: qwen2.5-3b or qwen2.5-0.5b for one GPU, smollm2-135m-instruct for a small one or none",
        )
