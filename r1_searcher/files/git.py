"""Query git about a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

from r1_searcher.errors import PipelineError


def listed(place: Path, *arguments: str) -> list[str]:
    """Return names that git separates by zero bytes (``-z``)."""
    return [name for name in git(place, *arguments).split("\0") if name]


def git(place: Path, *arguments: str) -> str:
    """Return git's output in ``place``. Raises ``PipelineError`` if git fails."""
    run = subprocess.run(["git", *arguments], cwd=place, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"git {arguments[0]} failed: {last}", where=str(place))
    return run.stdout.strip()
