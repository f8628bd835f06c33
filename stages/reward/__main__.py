"""``python -m stages.reward``: rewards of rollouts, or of transcript files; `r1-searcher reward` in a checkout."""

from __future__ import annotations

from r1_searcher.cli.reward import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main(prog="python -m stages.reward"))
