"""``python -m r1_searcher``: the command `r1-searcher` if it is not installed."""

from __future__ import annotations

from r1_searcher.cli.app import main

if __name__ == "__main__":
    main()
