"""A GPU that is the CPU: whatever is asked of the device `cuda` happens here, and torch.cuda answers as an H100."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

MEMORY = 80 * 2**30
ANSWERS = {
    "synchronize": None,
    "empty_cache": None,
    "reset_peak_memory_stats": None,
    "max_memory_allocated": 3 * 2**20,
    "memory_allocated": 2**20,
    "mem_get_info": (MEMORY - 2**30, MEMORY),
    "get_device_name": "NVIDIA H100 80GB HBM3",
    "get_device_properties": SimpleNamespace(
        name="NVIDIA H100 80GB HBM3", total_memory=MEMORY, major=9, minor=0, multi_processor_count=132, uuid="GPU-0"
    ),
}


class _OnCpu(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.pin_memory:
            return args[0]
        named = {name: _here(value) for name, value in (kwargs or {}).items()}
        return function(*map(_here, args), **named)


def _here(value: Any) -> Any:
    asked = isinstance(value, str | torch.device) and str(value).startswith("cuda")
    return "cpu" if asked else value


@contextlib.contextmanager
def pretended_gpu() -> Iterator[None]:
    """Pretend within the block. torch.cuda.is_available stays false: the library itself goes on using the CPU."""
    with contextlib.ExitStack() as stack:
        for name, answer in ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        stack.enter_context(_OnCpu())
        yield
