"""vLLM and Ray stand beside the locked packages and have changed none of them: `make train` goes on as before."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_locked_version_is_still_the_installed_one() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert len(locked) > 100
    assert {name: version(name).partition("+")[0] for name in locked} == locked
