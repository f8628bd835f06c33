"""Run `dvc repro` for `make train`, without DVC's advice on git and remotes.

    python -m flows.repro

The files are the same; only the output differs: on a terminal a block below the lines shows where the run is. Exits
with DVC's status.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from flows.follow import run_repro
from r1_searcher.errors import command


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.repro", description=(__doc__ or "").splitlines()[0])
    parser.parse_args(arguments)
    return run_repro(Path.cwd(), os.environ)


if __name__ == "__main__":
    raise SystemExit(main())
