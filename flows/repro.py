"""Run `dvc repro` for `make train`, without DVC's advice on git and remotes.

    python -m flows.repro

The files are the same; only the output is shorter. Exits with DVC's status.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from flows import worktrees
from r1_searcher.errors import command
from r1_searcher.shown import show


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.repro", description=(__doc__ or "").splitlines()[0])
    parser.parse_args(arguments)
    run = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert run.stdout is not None
    lines = worktrees.without_advice(run.stdout)
    while True:
        try:
            for line in lines:
                show(line.rstrip("\n").expandtabs())
            return run.wait()
        except KeyboardInterrupt:  # DVC gets it too and ends its stage, which prints its own last lines
            lines = worktrees.without_advice(run.stdout)


if __name__ == "__main__":
    raise SystemExit(main())
