"""The update's tokens per second, share of the peak and memory, beside the plan's: kernels, checkpointing, adapters."""

from __future__ import annotations

import math
from typing import Any

import torch

from r1_searcher.plan import memory
from r1_searcher.plan.architecture import Architecture
from r1_searcher.plan.work import forward_operations, operations_a_token
from r1_searcher.update import attention

from . import kernels, sizes, timing
from .device import planned_device
from .figures import Figures

LENGTH = 1259.0  # tokens of the plan's mean trajectory
TOKENS, PASS = 32768, 8192  # of the batch, and of a pass, as in the small profiles
_PLAIN = "a trajectory at a time"


def small(figures: Figures) -> None:
    """All variants of the small shape."""
    variants: dict[str, dict[str, Any]] = {
        "packed": {},
        "torch varlen": {},
        "checkpointing": {"gradient_checkpointing": True},
        "padded": {"layout": "padded"},
        "float32": {"dtype": "float32"},
        "torch flex": {},  # last: it is compiled
    }
    _run(figures, sizes.SMALL, variants)


def adapters(figures: Figures) -> None:
    """The small shape with adapters of rank 32, beside all weights."""
    from r1_searcher.params import Lora

    lora = {"lora": Lora(rank=4 if figures.machine.rehearsal else 32, alpha=32, targets="all-linear")}
    _run(figures, sizes.SMALL, {"all weights": {}, "adapters": lora})


def large(figures: Figures) -> None:
    """The large shape with checkpointing, as its profile has it."""
    variants = {
        "packed, checkpointing": {"gradient_checkpointing": True},
        "torch varlen, checkpointing": {"gradient_checkpointing": True},
    }
    _run(figures, sizes.LARGE, variants)


def _run(figures: Figures, names: tuple[str, ...], variants: dict[str, dict[str, Any]]) -> None:
    first = next(iter(variants.values()))
    sizes.largest_that_works(
        figures,
        names,
        lambda size: memory.trainer(size, _settings(figures, size, first), sizes.WORK).total,
        lambda size: _measure(figures, size, variants),
    )


def _settings(figures: Figures, size: Architecture, changes: dict[str, Any]) -> Any:
    budget = 256 if figures.machine.rehearsal else PASS
    return sizes.settings(size, update={"max_tokens_a_pass": budget, **changes}, max_total_tokens=min(budget, 4096))


def _measure(figures: Figures, size: Architecture, variants: dict[str, dict[str, Any]]) -> None:
    device, rehearsal = figures.machine.device, figures.machine.rehearsal
    tokens, length = (300, 60.0) if rehearsal else (TOKENS, LENGTH)
    batch = sizes.batch(size, tokens, length=length)
    number = sum(map(len, batch.token_ids))
    mean = number / len(batch.token_ids)
    peak, from_a_sheet = planned_device(figures.machine)
    longest, first = 0.0, next(iter(variants.values()))
    for name, changes in variants.items():
        kernel = next((one for one in kernels.KERNELS if name.startswith(one)), _PLAIN)
        why = kernels.missing(kernel, device) or ("no time left" if figures.left() < 1.5 * longest else "")
        if kernel == "torch flex" and not rehearsal and figures.left() < 30:
            why = why or "no time left to compile"
        if why:
            figures.note(f"update, {name}", None, "tokens/s", about=why)
            continue
        params = _settings(figures, size, changes)
        update = params.update
        timing.forget(device)
        try:
            with sizes.trainer(size, params, device) as trainer:
                loaded = trainer.engine.module.model.config._attn_implementation
                with kernels.instead(kernel):
                    once = timing.seconds(lambda: trainer.update(batch), device)
                    repeats = 1 if figures.left() < 4 * once or rehearsal else 2
                    taken = timing.seconds(lambda: trainer.update(batch), device, repeats=repeats)
                    gap = trainer.logprobs(batch.token_ids[:1], batch.policy_mask[:1])[0]
                longest = max(longest, 2 * once)
        except torch.cuda.OutOfMemoryError:
            if changes is first:
                raise
            figures.note(f"update, {name}", None, "tokens/s", about="out of memory")
            continue
        except Exception as error:  # of a kernel that the trainer does not use: a finding, no more
            if kernel == _PLAIN:
                raise
            figures.note(f"update, {name}", None, "tokens/s", about=f"{type(error).__name__}: {error}"[:300])
            continue
        about = f"attention: {attention.FLASH if loaded == attention.FLASH else kernel}; {number:,} tokens"
        planned = None  # the data sheets' peaks are bfloat16's
        if update.dtype == "bfloat16":
            planned = peak.flops * sizes.WORK.update_use / operations_a_token(size, update, mean)
        figures.note(f"update, {name}", number / taken, "tokens/s", planned=planned, about=about)
        needed = 3 * forward_operations(size, mean) / peak.flops  # without what checkpointing repeats
        if device == "cuda":
            of = "the data sheet's peak" if from_a_sheet else "the measured peak"
            share = planned and planned * needed
            figures.note(f"share of the peak, {name}", needed * number / taken, planned=share, about=f"of {of}")
        planned_bytes = memory.trainer(size, params, sizes.WORK).total
        figures.note(f"memory, {name}", timing.in_gib(timing.peak(device)), "GiB", planned=planned_bytes / timing.GIB)
        assert all(math.isfinite(value) for value in gap), f"{name}: log-probabilities are not finite"
