"""Estimate what a profile needs, before anything runs: memory per device, time per iteration, disk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from r1_searcher import params as contract
from r1_searcher import tables
from r1_searcher.errors import command
from r1_searcher.params import Params, profiles
from r1_searcher.plan import search, work
from r1_searcher.plan.architecture import Architecture, of_source
from r1_searcher.plan.check import check_fit, check_profile
from r1_searcher.plan.devices import MAIN, uses
from r1_searcher.plan.engine import trajectories_at_a_time
from r1_searcher.plan.machine import this_machine
from r1_searcher.plan.memory import GIB, Use
from r1_searcher.plan.units import duration, size
from r1_searcher.shown import show, show_lines


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and do what it says."""
    options = _parser().parse_args(argv)
    parts = list(profiles.overlays(options.name, changes=options.set))
    params = contract.parse(profiles.composed(profiles.base_text(), parts))
    workload = work.Workload(**{one.name: getattr(options, one.name) for one in fields(work.Workload)})
    if options.check:
        warning = check_profile(options.name, params, this_machine())
        if warning:
            show(f"warning: {warning}", file=sys.stderr)
        return
    model = of_source(params.base_model, options.model)
    disk = work.disk(model, params, workload)
    hardware = params.hardware
    memory = (options.memory_gib or hardware.gpu_memory_gib) * GIB
    device = work.DEVICES[options.device or ("a100" if hardware.gpus else "cpu-core")]
    show(f"{options.name}: {Path(options.model or params.base_model.source).name}, {model.parameters:,} parameters")
    for use in uses(model, params, workload, memory):
        _print_use(use)
    if params.train.segments or work.base_training_seconds(model, params, device):
        _print_work(model, params, workload, device, memory)
    _print_parts("disk", disk.parts, disk.total)
    if unknown := search.not_estimated(params, workload.passages):
        show(unknown)
    check_fit(options.name, model, params, workload, memory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stages.plan", description=__doc__)
    parser.add_argument("name", help="profile in profiles/, e.g. qwen2.5-7b-base")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a parameter (repeatable)"
    )
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="model folder; only its config.json is read")
    parser.add_argument(
        "--memory-gib", type=float, metavar="GiB", help="memory per device (default: hardware.gpu_memory_gib)"
    )
    parser.add_argument(
        "--device", choices=work.DEVICES, help="device whose speed is assumed (default: a100, or cpu-core without GPUs)"
    )
    parser.add_argument(
        "--check", action="store_true", help="print nothing if this machine can run the profile, otherwise the reason"
    )
    usual = parser.add_argument_group(
        "assumptions about a trajectory, and about the share of peak speed that is reached"
    )
    for one in fields(work.Workload):
        flag = f"--{one.name.replace('_', '-')}"
        usual.add_argument(flag, type=_positive, default=one.default, metavar="X", help="(default: %(default)s)")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0: {text}")
    return value


def _print_use(use: Use) -> None:
    _print_parts(use.device if use.device == MAIN else f"memory of {use.device}", use.parts, use.total)
    if use.memory:
        show(f"  of {use.room / GIB:.1f} GiB ({use.share:.0%} of {use.memory / GIB:g})")


def _print_parts(what: str, parts: dict[str, int], total: int) -> None:
    show(f"{what}: {size(total)}")
    if parts:
        show_lines(tables.text([[f"  {name}", size(part, 2)] for name, part in parts.items()]))


def _print_work(
    model: Architecture, params: Params, workload: work.Workload, device: work.Device, memory: float
) -> None:
    mean = workload.trajectory_tokens(params)
    at_a_time = trajectories_at_a_time(model, params, memory, mean)
    longest = trajectories_at_a_time(model, params, memory, params.rollout.max_total_tokens)
    show(
        f"a trajectory: {mean:,.0f} tokens expected; "
        f"an engine holds {at_a_time:,} at a time, {longest:,} of full length"
    )
    show(f"speed: {device.name} ({device.source}); searches and checkpoints are not counted")
    total = work.base_training_seconds(model, params, device)
    if total:
        tiny = params.base_model.tiny
        show(f"  base model: {tiny.tokens + tiny.anneal_tokens:,} tokens of training: {duration(total)}")
    for stage in ("stage1", "stage2"):
        segments = [segment for segment in params.train.segments.values() if segment.stage == stage]
        if not segments:
            continue
        one = work.iteration(model, params, workload, device, stage=stage, at_a_time=at_a_time)
        number = sum(segment.iterations for segment in segments)
        total += number * one.seconds
        show(
            f"  {stage}: {one.trajectories:,} trajectories, {one.tokens:,.0f} tokens, "
            f"{one.policy_tokens:,.0f} sampled: "
            f"read {duration(one.read_seconds)}, sample {duration(one.decode_seconds)}, "
            f"update {duration(one.update_seconds)}; {number} iterations {duration(number * one.seconds)}"
        )
    show(f"  together {duration(total)}")


if __name__ == "__main__":
    raise SystemExit(main())
