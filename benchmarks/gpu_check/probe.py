"""Ask torch, in a process of its own, whether it can use a GPU here: what it does with a bad driver ends only this."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import Any

from .bare import ROOT

_SECONDS = 90.0


@dataclass(frozen=True)
class Found:
    """Whether there is a GPU, and if not, torch's own words about it, in one line."""

    gpu: bool
    why: str = ""


def look(cuda: Any) -> Found:
    """Ask ``torch.cuda``. Whatever it raises or warns becomes ``why``."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            if cuda.is_available():
                cuda.init()
                cuda.mem_get_info()
                return Found(True)
            cuda.init()
        except Exception as error:  # torch raises AssertionError, RuntimeError and its own
            return Found(False, _line(f"{error}"))
    return Found(False, _line(" ".join(str(one.message) for one in warned)) or "torch.cuda.is_available() is false")


def ask() -> Found:
    """Ask in a process of its own."""
    command = [sys.executable, "-m", f"{__package__}.probe"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Found(False, f"torch did not answer within {_SECONDS:.0f} s")
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        return Found(False, _line(f"torch ended with status {run.returncode}: {last}"))
    return Found(**json.loads(run.stdout.splitlines()[-1]))


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def main() -> None:
    import torch

    found = look(torch.cuda)
    print(json.dumps({"gpu": found.gpu, "why": found.why}))


if __name__ == "__main__":
    main()
