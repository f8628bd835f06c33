"""Check whether a profile can run in the memory that it names and on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.files.window import check_window
from r1_searcher.params import Hardware, Params
from r1_searcher.params.segments import least_questions
from r1_searcher.plan.architecture import Architecture, of_source
from r1_searcher.plan.devices import MAIN, shortages, uses
from r1_searcher.plan.engine import CACHE
from r1_searcher.plan.machine import Machine
from r1_searcher.plan.memory import GIB, Use
from r1_searcher.plan.remedies import remedies
from r1_searcher.plan.units import size
from r1_searcher.plan.work import Workload, disk

SMALL = "PROFILE=laptop and PROFILE=smoke need none, PROFILE=smollm2-135m-instruct trains a real model without one"
SOLD = 0.97  # a card sold with 80 GB shows 79.6 GiB


def check_profile(name: str, params: Params, machine: Machine) -> str:
    """Raise ``PipelineError``, with what to use instead, if profile ``name`` cannot run on ``machine`` or in its stated
    memory.

    Returns a warning, or "". A model of unknown size is not judged if no GPU is needed.
    """
    if params.hardware.gpus:
        _check_gpus(name, params.hardware, machine)
    check_window(Path(params.base_model.source), params.rollout.max_total_tokens)
    check_questions(params)
    try:
        model = of_source(params.base_model)
    except PipelineError:
        if params.hardware.gpus:
            raise
        return ""
    work = Workload()
    memory = params.hardware.gpu_memory_gib * GIB

    def held_here(asked: Params) -> None:
        if asked.hardware.gpus:
            _check_gpus(name, asked.hardware, machine)
        _check_machine(name, asked, uses(model, asked, work, memory), machine)

    check_fit(name, model, params, work, memory, here=held_here)
    held_here(params)
    needed = disk(model, params, work).total
    if needed <= machine.disk:
        return ""
    # Only a warning: a resumed run already has some of it.
    return (
        f"profile {name} writes about {size(needed)} in all, and {size(machine.disk)} are free here "
        "(a larger train.stage1.checkpoint_every and train.stage2.checkpoint_every keep less)"
    )


def check_questions(params: Params) -> None:
    """Raise ``PipelineError`` if a synthetic world has fewer training questions than an iteration asks. Files are
    counted when they are read (`dvc repro questions`)."""
    least = least_questions(params.train).get("train", 0)
    if params.questions.source == "world" and params.questions.world.train < least:
        raise PipelineError(
            f"{params.questions.world.train} training questions, but an iteration asks {least}",
            where="questions.world.train",
            fix="more questions, or a smaller questions_an_iteration in train.stage1 and train.stage2",
        )


def check_fit(
    name: str,
    model: Architecture,
    params: Params,
    work: Workload,
    memory: float,
    *,
    here: Callable[[Params], None] = lambda changed: None,
) -> None:
    """Raise ``PipelineError`` if a device of ``memory`` bytes (0: unknown), vLLM's share, or the stated main memory is
    too small.

    The error lists the changes that help and that ``here`` accepts (does not refuse by a ``PipelineError``).
    """

    def is_accepted(changed: Params) -> bool:
        try:
            here(changed)
        except PipelineError:
            return False
        return True

    for use in shortages(model, params, work, memory):
        helps = remedies(model, params, work, memory, here=is_accepted)
        raise PipelineError(
            f"{name} cannot fit: {use.device} needs {use.total / GIB:.1f} GiB and has {use.room / GIB:.1f} "
            f"({use.share:.0%} of {use.memory / GIB:g})",
            where="plan",
            fix=f"any of these fits: {'; '.join(helps)}" if helps else "no single change fits: take a smaller model",
        )


def _check_machine(name: str, params: Params, needed: list[Use], machine: Machine) -> None:
    """Check main memory: the whole run on a CPU, else what is placed beside the GPUs."""
    if params.hardware.gpus:
        wanted, what = sum(use.total for use in needed if use.device == MAIN), MAIN
        fix = "a machine with more, or less in update.offload, rollout.vllm.sleep=false, index.dense.kind=ivfpq"
    else:
        # transformers' cache grows only as far as trajectories do; the rest must be available. vLLM takes its cache
        # whole.
        grows = not params.rollout.kind.fixed_cache
        cache = sum(use.parts[f"engine's {CACHE}"] for use in needed) if grows else 0
        wanted, what = sum(use.total for use in needed) - cache, "memory"
        smaller = "rollout.max_batch" if grows else "rollout.vllm.max_num_seqs, rollout.vllm.cpu_cache_gb"
        fix = f"make {smaller} or rollout.max_total_tokens smaller, or use PROFILE=laptop"
    if wanted > machine.memory:
        raise PipelineError(
            f"profile {name} needs about {size(wanted)} of {what}, and {size(machine.memory)} are free",
            where="hardware",
            fix=f"`python -m stages.plan {name}` says for what; {fix}",
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
