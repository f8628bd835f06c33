"""Measure what DVC, Prefect and process starts add to a run of the pipeline.

    python benchmarks/bookkeeping.py            in a checkout without outputs (make clean)

Runs ``dvc repro`` and records when each stage begins. A training segment's own time is the sum of its rollouts, rewards
and updates (and of the greedy validations, on a separate line), per the store. Any other stage's own time is its wall
time less a process start (imports), which is timed separately once. The rest of the wall time is bookkeeping.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

IMPORTS = "import torch, transformers, pyarrow.parquet; from transformers import AutoModelForCausalLM, Qwen2ForCausalLM"
LIGHT_IMPORTS = "import pyarrow.parquet, bm25s, pydantic"
WITH_TORCH = ("base_model", "base_metrics", "evaluate")
TIMINGS = Path(".store/.timings")


def main() -> None:
    """Run, measure, print a table and a summary line."""
    if TIMINGS.exists():
        sys.exit("error: .store holds an earlier run's artefacts (make clean, or use a fresh clone)")
    heavy, light = start_seconds(IMPORTS), start_seconds(LIGHT_IMPORTS)
    began = time.perf_counter()
    stages = run_pipeline()
    whole = time.perf_counter() - began
    own_total = 0.0
    print(f"\n{'stage':<28}{'wall s':>8}{'own s':>8}")
    for name, wall in stages:
        own = own_seconds(name, wall, heavy, light)
        own_total += own
        print(f"{name:<28}{wall:>8.1f}{own:>8.1f}")
    watches = sum(json.loads(file.read_text())["seconds"] for file in Path(".store/watches").rglob("timings.json"))
    own_total += watches
    print(f"{'(the watches of training)':<28}{'':>8}{watches:>8.1f}")
    rest = whole - own_total
    print(f"{'all':<28}{whole:>8.1f}{own_total:>8.1f}   bookkeeping {rest:.1f} s = {rest / whole:.1%} of the wall time")
    print(f"(a process start with torch {heavy:.1f} s, without {light:.1f} s)")


def start_seconds(imports: str) -> float:
    """Return the fastest of three starts."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", imports], check=True)
        return time.perf_counter() - began

    return min(once() for _ in range(3))


def run_pipeline() -> list[tuple[str, float]]:
    """Return the stages' names in order of execution, with their wall seconds."""
    process = subprocess.Popen([sys.executable, "-m", "dvc", "repro"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    begun: list[tuple[str, float]] = []
    for line in process.stdout:
        print(line, end="", flush=True)
        if match := re.match(r"Running stage '(.+)':", line):
            begun.append((match[1], time.perf_counter()))
    if process.wait() != 0:
        sys.exit("error: dvc repro failed")
    ends = [start for _, start in begun[1:]] + [time.perf_counter()]
    return [(name, end - start) for (name, start), end in zip(begun, ends, strict=True)]


def own_seconds(name: str, wall: float, heavy: float, light: float) -> float:
    """Return a stage's own work within its wall time."""
    if name.startswith("train@"):
        (file,) = TIMINGS.glob(f"*-{name.removeprefix('train@')}.jsonl")
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return float(sum(row["rollout"] + row["reward"] + row["update"] for row in rows))
    return max(0.0, wall - (heavy if name.startswith(WITH_TORCH) else light))


if __name__ == "__main__":
    main()
