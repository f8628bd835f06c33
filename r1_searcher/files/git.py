"""What git says of a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

from r1_searcher.errors import PipelineError


def listed(place: Path, *arguments: str) -> list[str]:
    """Names that git separates by zero bytes (``-z``)."""
    return [name for name in git(place, *arguments).split("\0") if name]


def git(place: Path, *arguments: str) -> str:
    """What git says in ``place``; its refusal is a ``PipelineError``."""
    run = subprocess.run(["git", *arguments], cwd=place, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"git {arguments[0]} failed: {last}", where=str(place))
    return run.stdout.strip()
