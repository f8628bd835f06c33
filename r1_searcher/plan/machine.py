"""The machine at hand: its GPUs, memory and disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ASK_GPUS = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class Machine:
    """GPUs' memory, main memory that can be had, and free disk, in bytes."""

    gpus: tuple[int, ...]
    memory: int
    disk: int


def this_machine(place: Path = Path()) -> Machine:
    """What is here: NVIDIA GPUs that this process may use, memory, and the disk that ``place`` is on."""
    import psutil

    return Machine(tuple(_gpus()), int(psutil.virtual_memory().available), shutil.disk_usage(place.resolve()).free)


def _gpus() -> list[int]:
    """Bytes of each GPU, by the driver's own tool: it is there wherever the driver is, and loads no framework."""
    if shutil.which(ASK_GPUS[0]) is None:
        return []
    run = subprocess.run(ASK_GPUS, capture_output=True, text=True, check=False)
    found = [int(line) * 2**20 for line in run.stdout.split() if line.isdigit()] if run.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    return found[: len([name for name in visible.split(",") if name.strip() not in ("", "-1")])]
