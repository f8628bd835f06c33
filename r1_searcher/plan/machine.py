"""This machine's GPUs, memory and disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ASK_GPUS = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class Machine:
    """Memory of each GPU, available main memory, and free disk, in bytes."""

    gpus: tuple[int, ...]
    memory: int
    disk: int


def this_machine(place: Path = Path()) -> Machine:
    """Return this machine's NVIDIA GPUs that the process may use, its memory, and the disk of ``place``."""
    import psutil

    return Machine(tuple(_gpus()), int(psutil.virtual_memory().available), shutil.disk_usage(place.resolve()).free)


def _gpus() -> list[int]:
    """Return each GPU's bytes by the driver's own tool, which exists wherever the driver does and loads no
    framework."""
    if shutil.which(ASK_GPUS[0]) is None:
        return []
    run = subprocess.run(ASK_GPUS, capture_output=True, text=True, check=False)
    found = [int(line) * 2**20 for line in run.stdout.split() if line.isdigit()] if run.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    return found[: len([name for name in visible.split(",") if name.strip() not in ("", "-1")])]
