"""Tokens per second of the laptop's model by torch threads, GOMP_SPINCOUNT and other load on the machine.

    python benchmarks/threads.py                                  # about 3 minutes on two free cores
    python benchmarks/threads.py --neighbours 0 1 3 --steps 40

A step is one of the base model's training: forward, backward, both optimisers. Neighbours are spinning processes,
started here. libgomp reads GOMP_SPINCOUNT once, so each line of the table has its own process; "-" leaves it to
libgomp, which spins 300,000 times. For a given number of threads the weights must be the same, bit for bit, whatever
the spin count and the neighbours; other numbers of threads round differently.

CPU per clock is processor time per wall time: the number of threads if all are running. Preemptions are involuntary
context switches per CPU second. From these two `flows/machine_load.py` detects a busy machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
LIBRARY = "-"  # a spin count: libgomp's own
WARMING = 3  # warm-up steps
TOKENS, LENGTH = 1536, 96  # of a step, and of each of its texts
SPIN = "while True: pass"


def main() -> None:
    """Print the table, and compare the weights of equal numbers of threads."""
    options = _parser().parse_args()
    if options.child:
        _child(options.threads[0], options.steps)
        return
    sums: dict[int, set[str]] = {threads: set() for threads in options.threads}
    cores = os.sched_getaffinity(0)
    print(f"{len(cores)} cores, load {os.getloadavg()[0]:.1f} before; {options.steps} steps of {TOKENS:,} tokens\n")
    heads = ["threads", "GOMP_SPINCOUNT"]
    for neighbours in options.neighbours:
        beside = {0: "idle", 1: "1 neighbour"}.get(neighbours, f"{neighbours} neighbours")
        heads += [f"{beside}: tokens/s", "CPU ms a step", "CPU per clock", "preemptions"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for threads in options.threads:
        for spin in options.spin:
            cells = [str(threads), spin if spin == LIBRARY else f"{int(spin):,}"]
            for found in _measure(threads, spin, options):
                sums[threads].add(found["sha256"])
                cells += [f"{found['speed']:,.0f}", f"{found['cpu_ms']:.0f}"]
                cells += [f"{found['cpu_per_clock']:.2f}", f"{found['preemptions']:,.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    print()
    for threads, models in sums.items():
        assert len(models) == 1, f"{threads} threads made {len(models)} different models"
        print(f"{threads} threads: the same weights each time, sha256 {next(iter(models))[:16]}…")


def _measure(threads: int, spin: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure one process idle and beside each number of neighbours."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if spin != LIBRARY:
        environment["GOMP_SPINCOUNT"] = spin
    command = [sys.executable, __file__, "--child", "--threads", str(threads), "--steps", str(options.steps)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "ready\n", "the child did not start"
        for neighbours in options.neighbours:
            with spinning(neighbours):
                print("go", file=child.stdin, flush=True)
                yield json.loads(child.stdout.readline())
        child.stdin.close()
        assert child.wait() == 0


@contextmanager
def spinning(number: int) -> Iterator[None]:
    """Start so many processes that keep a core busy each."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", SPIN]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _child(threads: int, steps: int) -> None:
    """Measure at each line of standard input, with the same model and texts."""
    import torch  # reads GOMP_SPINCOUNT: before the package, which sets it by default

    from r1_searcher import params

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    settings = params.load(ROOT / "params.yaml")
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(_steps(settings, steps)), flush=True)


def _steps(settings: Any, steps: int) -> dict[str, Any]:
    import numpy as np

    from r1_searcher.models import pretrain

    tiny = settings.base_model.tiny
    model = pretrain.new_model(tiny, tiny.vocabulary, 0, settings.rollout.max_total_tokens, settings.seed)
    training = pretrain.Pretraining(model, tiny, settings.seed)
    random = np.random.default_rng(0)
    weights = np.ones(LENGTH, dtype=np.float32)
    seconds = []
    for number in range(WARMING + steps):
        if number == WARMING:
            before = resource.getrusage(resource.RUSAGE_SELF)
        ids = random.integers(tiny.vocabulary, size=(TOKENS // LENGTH, LENGTH))
        began = time.perf_counter()
        training.step([pretrain.Text(row, weights) for row in ids], 1.0)
        seconds.append(time.perf_counter() - began)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return {
        "speed": TOKENS / median(seconds[WARMING:]),
        "cpu_ms": 1000 * cpu / steps,
        "cpu_per_clock": cpu / sum(seconds[WARMING:]),
        "preemptions": (used.ru_nivcsw - before.ru_nivcsw) / cpu,
        "sha256": digest.hexdigest(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--threads", type=int, nargs="+", default=[1, 2], help="default: %(default)s")
    add("--spin", type=spin_count, nargs="+", default=[LIBRARY, "1000", "3000", "10000", "30000"])
    add("--neighbours", type=int, nargs="+", default=[0, 1], help="processes that spin (default: %(default)s)")
    add("--steps", type=int, default=25, help="of each cell (default: %(default)s)")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def spin_count(text: str) -> str:
    """Parse a count, or ``-`` for libgomp's own."""
    return text if text == LIBRARY else str(int(text))


if __name__ == "__main__":
    main()
