"""``python -m stages.rollout``: sample trajectories of a policy; `r1-searcher rollout` in a checkout."""

from __future__ import annotations

from r1_searcher.cli.rollout import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main(prog="python -m stages.rollout"))
