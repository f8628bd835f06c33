"""How soon after the return key `r1-searcher ask` shows the first word, its start included.

    python benchmarks/asking.py                       in a checkout with the laptop profile's policy and index
    python benchmarks/asking.py --folder FOLDER --repeats 5

Each repeat is a process of its own. Standard output has the transcript alone, so that its first byte is the first word.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]


def ask(question: str, folder: Path) -> tuple[float, float]:
    """Return the seconds from the start to the first byte of the transcript, and to the end."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "r1_searcher", "ask", question]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        begun = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not first:
        raise SystemExit(process.returncode or "no transcript")
    return begun, time.perf_counter() - start


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(), help="a checkout or workspace after training")
    parser.add_argument("--question", default="Who married the author of Fallen Mountain?")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    times = [ask(options.question, options.folder) for _ in range(options.repeats)]
    for name, values in zip(("first word", "the whole command"), zip(*times, strict=True), strict=True):
        print(f"{name}: median {median(values):.1f} s, {min(values):.1f} to {max(values):.1f}")


if __name__ == "__main__":
    main()
