"""Ranks (one process without a launcher, or as many as torchrun started) and the DeepSpeed engine on them."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from typing import Any

import torch
import torch.distributed as dist

from r1_searcher.params import Update

_NEVER = 10**12  # optimiser steps between two of DeepSpeed's prints


def start() -> tuple[int, int, torch.device]:
    """Join the process group, making it where there is none; returns rank, world size, device.

    Under torchrun the group comes from its environment. Without a launcher it is a group of one in
    this process's memory: no port, no address, no MPI search.

    DeepSpeed would compile a shared-memory collective with g++ the first time it starts on a CPU (over
    a minute, and only where there is a compiler). It is switched off: with one rank it has nothing to
    do, and sums must not depend on whether a machine has a compiler.
    """
    cuda = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")  # else its search for one prints a warning
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it, launcher or not
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not dist.is_initialized():
        backend = "nccl" if cuda else "gloo"
        if "WORLD_SIZE" in os.environ and "RANK" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return dist.get_rank(), dist.get_world_size(), device


def sum_over_ranks(target: torch.Tensor) -> None:
    """Sum over ranks, in place."""
    if dist.get_world_size() > 1:
        dist.all_reduce(target)


def barrier() -> None:
    """Wait for all ranks: what rank 0 wrote is there for the others."""
    if dist.get_world_size() > 1:
        dist.barrier()


def initialize(module: torch.nn.Module, update: Update, learning_rate: float) -> Any:
    """The DeepSpeed engine around ``module`` with a torch AdamW."""
    import deepspeed

    # ZeRO 3 calls collectives under names that torch is about to drop, and every call says so.
    warnings.filterwarnings("ignore", message="`torch.distributed.*is deprecated", category=FutureWarning)
    optimizer = make_optimizer(module, update, learning_rate)
    with contextlib.redirect_stdout(io.StringIO()):  # the bfloat16 optimiser prints what memory it takes
        engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=config(update), dist_init_required=False
        )
    return engine


def make_optimizer(module: torch.nn.Module, update: Update, learning_rate: float) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, as is usual."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": update.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=learning_rate, betas=update.betas, fused=True
    )


def config(update: Update) -> dict[str, Any]:
    """DeepSpeed's configuration. bfloat16 weights need float32 master weights, which stage 0 lacks: stage 1 then,
    which is the same on one rank."""
    half = update.dtype == "bfloat16"
    stage = max(update.zero_stage, 1) if half else update.zero_stage
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # only DeepSpeed's sample counter reads it
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if stage == 0 else update.max_gradient_norm,
        "zero_optimization": {"stage": stage},
        "bf16": {"enabled": half},
        "steps_per_print": _NEVER,
        "wall_clock_breakdown": False,
    }
    if update.offload != "none":
        # DeepSpeed would insist on its own Adam for CPUs, which is compiled first; torch's is fused on a CPU too.
        settings["zero_force_ds_cpu_optimizer"] = False
        place = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        settings["zero_optimization"]["offload_optimizer"] = place
        if update.offload == "all":
            settings["zero_optimization"]["offload_param"] = place
    if half:
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings
