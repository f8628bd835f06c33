"""``python -m stages.evaluate``: evaluate policies, and the summary; `r1-searcher evaluate` in a checkout."""

from __future__ import annotations

from r1_searcher.cli.evaluate import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main(prog="python -m stages.evaluate"))
