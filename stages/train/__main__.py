"""Join the curves of all segments for `dvc plots` (`python -m stages.train gather`).

Training itself is a flow: `python -m flows.train --segment NAME`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from r1_searcher import params as contract
from r1_searcher.errors import command
from r1_searcher.training.curves import CURVES, WATCHES, gather


@command
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["gather"], help=f"write {CURVES} and {WATCHES}")
    parser.add_argument("--params", type=Path, default=contract.PARAMS_FILE, metavar="FILE")
    options = parser.parse_args()
    segments = contract.load(options.params).train.segments
    gather([Path("plots/train") / f"{name}.csv" for name in segments], Path())


if __name__ == "__main__":
    raise SystemExit(main())
