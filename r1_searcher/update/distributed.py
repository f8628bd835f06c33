"""Ranks (one process without a launcher, or those that torchrun started) and the DeepSpeed engine on them."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from typing import Any

import torch
import torch.distributed as dist

from r1_searcher.params import Update
from r1_searcher.update.optimizer import make_optimizer

_NEVER = 10**12  # optimiser steps between two of DeepSpeed's prints


def start() -> tuple[int, int, torch.device]:
    """Join the process group of DeepSpeed's ranks, creating it if needed; return rank, world size and device.

    Under torchrun the environment describes the group. Without a launcher it is a group of one in this process's
    memory: no port, no address, no MPI search.

    DeepSpeed would compile a shared-memory collective with g++ at its first start on a CPU (over a minute, and only if
    there is a compiler). It is switched off: one rank does not need it, and sums must not depend on whether a machine
    has a compiler.
    """
    cuda = torch.cuda.is_available()
    # else DeepSpeed's search for one prints a warning
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed requires it, with or without a launcher
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not dist.is_initialized():
        backend = "nccl" if cuda else "gloo"
        if launched():
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    return dist.get_rank(), dist.get_world_size(), own_device()


def launched() -> bool:
    """Return whether a launcher such as torchrun describes a group of ranks in the environment."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def own_device() -> torch.device:
    """Return this rank's GPU, made the current one, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_ranks(target: torch.Tensor) -> None:
    """Sum over ranks, in place."""
    if _ranks() > 1:
        dist.all_reduce(target)


def barrier() -> None:
    """Wait for all ranks, so that all see what rank 0 wrote."""
    if _ranks() > 1:
        dist.barrier()


def initialize(module: torch.nn.Module, update: Update, learning_rate: float) -> Any:
    """Return the DeepSpeed engine around ``module`` with a torch AdamW."""
    import deepspeed

    # ZeRO 3 calls collectives by names that torch deprecates, with a warning per call.
    warnings.filterwarnings("ignore", message="`torch.distributed.*is deprecated", category=FutureWarning)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(trained, update, learning_rate)
    with contextlib.redirect_stdout(io.StringIO()):  # the bfloat16 optimiser prints its memory use
        engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=config(update), dist_init_required=False
        )
    return engine


def config(update: Update) -> dict[str, Any]:
    """Return DeepSpeed's configuration.

    bfloat16 weights need float32 master weights, which stage 0 lacks; stage 1 is used instead, which is the same on one
    rank.
    """
    half = update.dtype == "bfloat16"
    stage = max(update.zero_stage, 1) if half else update.zero_stage
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # read only by DeepSpeed's sample counter
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if stage == 0 else update.max_gradient_norm,
        "zero_optimization": {"stage": stage},
        "bf16": {"enabled": half},
        "steps_per_print": _NEVER,
        "wall_clock_breakdown": False,
    }
    if update.offload != "none":
        # DeepSpeed would insist on its own CPU Adam, which it compiles first; torch's is fused on a CPU too.
        settings["zero_force_ds_cpu_optimizer"] = False
        place = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        settings["zero_optimization"]["offload_optimizer"] = place
        if update.offload == "all":
            settings["zero_optimization"]["offload_param"] = place
    if half:
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings
