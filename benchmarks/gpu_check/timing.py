"""Time and memory of a device, whichever it is."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch

GIB = 2**30


def wait(device: str) -> None:
    """Wait until the device has done everything."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(function: Callable[[], Any], device: str, *, repeats: int = 1, warm: int = 0) -> float:
    """Return the mean wall seconds of a call, after ``warm`` calls that do not count."""
    for _ in range(warm):
        function()
    wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        function()
    wait(device)
    return (time.perf_counter() - began) / repeats


def forget(device: str) -> None:
    """Free what nothing refers to, and start the count of the peak anew."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> float | None:
    """Return the most bytes allocated since ``forget``; None on a CPU."""
    return float(torch.cuda.max_memory_allocated()) if device == "cuda" else None


def held(device: str) -> float | None:
    """Return the bytes allocated now; None on a CPU."""
    return float(torch.cuda.memory_allocated()) if device == "cuda" else None


def free(device: str) -> float:
    """Return the bytes that can be allocated; on a CPU, where the kit's sizes are tiny, any number of them."""
    return float(torch.cuda.mem_get_info()[0]) if device == "cuda" else float("inf")


def in_gib(size: float | None) -> float | None:
    """Return GiB of bytes."""
    return None if size is None else size / GIB
