"""``python -m stages.index``: build the index, `search` and `serve` it; `r1-searcher index` in a checkout."""

from __future__ import annotations

from r1_searcher.cli.index import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main(prog="python -m stages.index"))
