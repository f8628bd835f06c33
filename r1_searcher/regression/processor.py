"""The kind of processor that figures were made on: within one kind, equal code gives equal tokens."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

NAMED = ("architecture", "maker", "instructions", "torch")
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")


def processor_kind() -> dict[str, str]:
    """Return what decides how torch rounds: architecture, maker (MKL has kernels for each), the vector instructions
    that torch chose, and torch's version."""
    import torch

    return {
        "architecture": platform.machine(),
        "maker": _maker(Path("/proc/cpuinfo")),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def package_versions() -> dict[str, str]:
    """Return versions of the packages that affect a policy's answers."""
    return {name: version(name) for name in _PACKAGES}


def named(kind: Mapping[str, str]) -> str:
    """Return a kind for readers."""
    return ", ".join(f"torch {kind[name]}" if name == "torch" else kind[name] for name in NAMED if name in kind)


def _maker(path: Path) -> str:
    """Return the processor's maker as Linux names it; on other systems the system's name."""
    if not path.is_file():
        return platform.system()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("vendor_id", "CPU implementer"):
            return value.strip()
    return platform.system()
