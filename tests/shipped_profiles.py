"""Profiles over the built-in parameters, whatever the checkout's params.yaml contains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from r1_searcher.params import SHIPPED, Params, parse
from r1_searcher.params.profiles import composed, overlays

ROOT = Path(__file__).resolve().parents[1]


def shipped_profile(name: str, *changes: str) -> Params:
    """The parameters of a profile of ``profiles/``, with ``key=value`` changes."""
    return parse(composed(SHIPPED.read_text(encoding="utf-8"), list(overlays(name, changes=changes, root=ROOT))))


def enter_shipped(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let a command run in ``folder``, with the built-in parameters and profiles."""
    shutil.copy(SHIPPED, folder / "params.yaml")
    (folder / "profiles").symlink_to(ROOT / "profiles")
    patch.chdir(folder)
