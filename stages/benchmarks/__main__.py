"""``python -m stages.benchmarks``: released benchmarks; `r1-searcher benchmarks` in a checkout."""

from __future__ import annotations

from r1_searcher.cli.benchmarks import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main(prog="python -m stages.benchmarks"))
