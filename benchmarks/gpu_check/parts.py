"""The kit's parts in their order: the shortest and most telling first."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from .figures import Figures


@dataclass(frozen=True)
class Part:
    """One part: a function ``run(figures)`` in a module of this package.

    Attributes:
        module: a module of this package, or another one by its whole name, and the function if it is not ``run``:
            ``module:function``.
        seconds: its limit on a GPU; five times as long in a rehearsal, on a CPU that may be busy.
        needs: packages without which it is skipped.
        apart: whether it needs a fresh process, because its libraries start processes or threads of their own.
        rest: whether it takes whatever time is left.
    """

    name: str
    title: str
    module: str
    seconds: float
    needs: tuple[str, ...] = ()
    apart: bool = False
    rest: bool = False

    def limit(self, *, rehearsal: bool) -> float:
        """Return its limit in seconds."""
        return self.seconds * (5 if rehearsal else 1)

    def missing(self) -> str:
        """Return the packages that it needs and that are not installed."""
        return ", ".join(name for name in self.needs if importlib.util.find_spec(name) is None)

    def function(self) -> Callable[[Figures], None]:
        """Return what runs it."""
        module, _, name = self.module.partition(":")
        whole = module if "." in module else f"{__package__}.{module}"
        found: Callable[[Figures], None] = getattr(importlib.import_module(whole), name or "run")
        return found


PARTS = (
    Part("device", "the device and its measured limits", "device", 40),
    Part("contract", "the transformers engine by the engine contract", "contract:run_part", 60),
    Part("attention", "attention of packed rows", "attention", 45),
    Part("sampling-small", "sampling and prefill, 0.5B", "sampling:small", 50),
    Part("update-small", "the update, 0.5B", "update:small", 60),
    Part("lora", "the update with adapters, 0.5B", "update:adapters", 30, needs=("peft",)),
    Part("turns", "engine and trainer in turns on one device", "turns", 30),
    Part("sampling-large", "sampling and prefill, 3B", "sampling:large", 50),
    Part("update-large", "the update, 3B", "update:large", 60),
    Part("zero", "ZeRO 0 to 3", "zero", 60, needs=("deepspeed",), apart=True),
    Part("vllm", "vLLM: contract, weights, sleep", "vllm_part:run_part", 120, needs=("vllm",), apart=True),
    Part("rl", "reinforcement learning, stages 1 and 2", "rl", 40, needs=("pyarrow",), rest=True),
)
