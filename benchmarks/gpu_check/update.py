"""The update's tokens per second, share of the peak and memory, beside the plan's: kernels, checkpointing, adapters."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import torch

from r1_searcher.plan import memory
from r1_searcher.plan.architecture import Architecture
from r1_searcher.plan.work import forward_operations, operations_a_token
from r1_searcher.types.protocols import TrainingBatch

from . import kernels, sizes, timing
from .device import planned_device
from .figures import Figures

LENGTH = 1259.0  # tokens of the plan's mean trajectory
TOKENS, PASS = 32768, 8192  # of the batch, and of a pass, as in the small profiles
_COMPILES = 40.0  # seconds that flex attention may need


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
    if importlib.util.find_spec("flash_attn") is not None:
        variants["a trajectory at a time"] = {}
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
    tokens, length = (300, 60.0) if figures.machine.rehearsal else (TOKENS, LENGTH)
    batch = sizes.batch(size, tokens, length=length)
    longest = 0.0
    for number, (name, changes) in enumerate(variants.items()):
        kernel = next((one for one in kernels.KERNELS if name.startswith(one)), "")
        least = _COMPILES if kernel == "torch flex" and not figures.machine.rehearsal else 1.5 * longest
        why = kernels.missing(kernel, figures.machine.device) if kernel else ""
        if not why and figures.left() < least:
            why = "no time left"
        before = figures.left()
        if not why:
            try:
                _variant(figures, size, name, changes, batch, kernel=kernel)
            except torch.cuda.OutOfMemoryError:
                if number == 0:
                    raise
                why = "out of memory"
            except Exception as error:  # of a kernel that the trainer does not use: a finding, no more
                if not kernel:
                    raise
                why = f"{type(error).__name__}: {error}"[:300]
        if why:
            figures.note(f"update, {name}", None, "tokens/s", about=why)
        longest = max(longest, before - figures.left())


def _variant(
    figures: Figures, size: Architecture, name: str, changes: dict[str, Any], batch: TrainingBatch, *, kernel: str
) -> None:
    """Measure one variant. Its trainer is gone afterwards: the next one needs the memory."""
    device = figures.machine.device
    params = _settings(figures, size, changes)
    number = sum(map(len, batch.token_ids))
    mean = number / len(batch.token_ids)
    peak, from_a_sheet = planned_device(figures.machine)
    timing.forget(device)
    with sizes.trainer(size, params, device, blocks=bool(kernel)) as trainer, kernels.instead(kernel):
        used = kernel or trainer.engine.module.model.config._attn_implementation
        once = timing.seconds(lambda: trainer.update(batch), device)
        repeats = 1 if figures.left() < 4 * once or figures.machine.rehearsal else 2
        taken = timing.seconds(lambda: trainer.update(batch), device, repeats=repeats)
        found = trainer.logprobs(batch.token_ids[:1], batch.policy_mask[:1])[0]
    assert all(math.isfinite(value) for value in found), f"{name}: log-probabilities are not finite"
    planned = None  # the data sheets' peaks are bfloat16's
    if params.update.dtype == "bfloat16":
        planned = peak.flops * sizes.WORK.update_use / operations_a_token(size, params.update, mean)
    about = f"attention: {used}; {number:,} tokens"
    figures.note(f"update, {name}", number / taken, "tokens/s", planned=planned, about=about)
    needed = 3 * forward_operations(size, mean) / peak.flops  # without what checkpointing repeats
    if device == "cuda":
        of = "the data sheet's peak" if from_a_sheet else "the measured peak"
        share = planned and planned * needed
        figures.note(f"share of the peak, {name}", needed * number / taken, planned=share, about=f"of {of}")
    planned_bytes = memory.trainer(size, params, sizes.WORK).total
    figures.note(f"memory, {name}", timing.in_gib(timing.peak(device)), "GiB", planned=planned_bytes / timing.GIB)
