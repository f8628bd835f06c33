"""Segments of the training flow with the stand-ins of ``fake_rooms``: run here or in a process, and what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_rooms

from r1_searcher.files.artefacts import sha256_tree

ONE: dict[str, Any] = {"s1": {"stage": "stage1", "prev": "data/base_model", "iterations": 5, "iteration_offset": 0}}
FAKES = Path(fake_rooms.__file__)


def made(place: Path, segment: str = "s1") -> dict[str, str]:
    """Return fingerprints of everything that a segment's run leaves outside the store."""
    return {
        part: sha256_tree(place / part)
        for part in (f"data/train/{segment}", f"plots/train/{segment}.csv", f"metrics/train/{segment}.json")
    }


def train(segment: str) -> dict[str, Any]:
    from flows.train import train as flow

    return flow(segment)


def in_a_process(place: Path, prefect: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = f"{FAKES.parent}{os.pathsep}{FAKES.parents[1]}"
    return subprocess.run(
        [sys.executable, str(FAKES), "s1"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": paths, "PREFECT_API_URL": prefect, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
