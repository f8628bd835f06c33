"""What is placed on each device of a run, and in main memory beside the GPUs."""

from __future__ import annotations

from dataclasses import replace

from r1_searcher.params import Params
from r1_searcher.plan import search
from r1_searcher.plan.architecture import Architecture
from r1_searcher.plan.engine import engine, least
from r1_searcher.plan.memory import GIB, PASSING, Use, offloaded, reference, trainer
from r1_searcher.plan.work import Workload

MAIN = "main memory beside the GPUs"


def uses(model: Architecture, params: Params, work: Workload, memory: float) -> list[Use]:
    """Return what each device of ``memory`` bytes (0: unknown) holds, and the main memory beside GPUs."""
    placed = _on_own_devices if params.hardware.gpus > 1 else _on_one_device
    found = [replace(use, memory=memory) for use in placed(model, params, work, memory)]
    away = main_memory(model, params, work)
    return [*found, Use(MAIN, away, memory=params.hardware.main_memory_gib * GIB)] if away else found


def shortages(model: Architecture, params: Params, work: Workload, memory: float) -> list[Use]:
    """Return the devices whose contents do not fit, and a vLLM that could not start."""
    found = [*least(model, params, memory), *uses(model, params, work, memory)]
    return [use for use in found if use.lacks]


def main_memory(model: Architecture, params: Params, work: Workload) -> dict[str, int]:
    """Return the bytes in a GPU machine's main memory of what was offloaded and of dense search; empty if none.

    Without GPUs the index is not judged: mapped files can be read again from disk.
    """
    parts = search.in_main_memory(params, work.passages) if params.hardware.gpus else {}
    if not params.train.segments:
        return parts
    parts |= offloaded(model, params)
    if _takes_turns(params):
        parts["sleeping engine's weights"] = engine(model, params, 0).parts["weights"]
    return parts


def _on_own_devices(model: Architecture, params: Params, work: Workload, memory: float) -> list[Use]:
    """Return the GPUs of the trainer, the engines, and the reference policy."""
    rolling = engine(model, params, memory)
    if not params.train.segments:
        return [rolling]
    frozen = params.hardware.reference_gpus and params.update.kl_coefficient > 0
    return [trainer(model, params, work), rolling, *([reference(model, params, work)] if frozen else [])]


def _on_one_device(model: Architecture, params: Params, work: Workload, memory: float) -> list[Use]:
    """Return one GPU or none: trainer and engine share it, or the process.

    A sleeping vLLM leaves the trainer the whole GPU; while it samples, the trainer keeps everything except a pass's
    temporaries. Other engines release nothing.
    """
    name = "the GPU" if params.hardware.gpus else "the process"
    rolling = {f"engine's {part}": size for part, size in engine(model, params, memory).parts.items()}
    if not params.train.segments:
        return [Use(name, rolling)]
    training = trainer(model, params, work).parts
    trains = {f"trainer's {part}": size for part, size in training.items()}
    if not _takes_turns(params):
        return [Use(name, trains | rolling)]
    rests = {f"trainer's {part}": size for part, size in training.items() if part not in PASSING}
    return [Use(f"{name} while it trains", trains), Use(f"{name} while it samples", rests | rolling)]


def _takes_turns(params: Params) -> bool:
    """Return whether the engine sleeps while the trainer works on their shared GPU."""
    return params.hardware.gpus == 1 and params.rollout.kind.sleeps(params.rollout)
