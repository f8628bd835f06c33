"""Sub-commands that need the project's own files: they run stages, flows and make targets of the current checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from r1_searcher.errors import PipelineError

_OF_A_CHECKOUT = ("dvc.yaml", "params.yaml", "Makefile", "flows", "stages")


def is_checkout(folder: Path) -> bool:
    """Whether ``folder`` is the root of a checkout of the project."""
    return all((folder / entry).exists() for entry in _OF_A_CHECKOUT)


def run_in_checkout(name: str, command: Sequence[str], words: Sequence[str]) -> int:
    """Run ``command`` with ``words`` in the present folder; its exit status.

    ``command`` is a module for this Python (``stages.plan``) with leading words, or ``make`` with a target: make knows
    the environment and the order of what a run needs, and its variables are then the words (``PROFILE=smoke``).
    Raises ``PipelineError`` if the present folder is no checkout.
    """
    here = Path.cwd()
    if not is_checkout(here):
        raise PipelineError(
            f"`r1-searcher {name}` needs a checkout of the project, and this folder is not one",
            where=str(here),
            fix="git clone the project, and run the command in its root folder",
        )
    if command[0] == "make":
        line = [*command, "--no-print-directory", *words]
    else:
        line = [sys.executable, "-m", *command, *words]
    running = subprocess.Popen(line, cwd=here, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    while True:
        try:
            return running.wait()
        except KeyboardInterrupt:  # the child has it too, and says its own last words
            continue
