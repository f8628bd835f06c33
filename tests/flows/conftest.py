"""Projects in which fakes replace the stages with models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_rooms
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a project folder with the given training stages and segments, and enter it."""
    for name, module in fake_rooms.fakes().items():
        monkeypatch.setitem(sys.modules, name, module)
    fake_rooms.calls.clear()

    def make(
        folder: str,
        segments: dict[str, Any],
        workers: dict[str, Any] | None = None,
        overlap: int = 0,
        **changes: Any,
    ) -> Path:
        params = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
        params["train"] |= {"segments": segments, "overlap": overlap}
        params["update"]["importance_cap"] = 2.0 * overlap
        params["workers"] |= workers or {}
        for stage in ("stage1", "stage2"):
            params["train"][stage] |= {
                "questions_an_iteration": 4,
                "samples_a_question": 2,
                "evaluate_every": 2,
                "evaluate_questions": 4,
                "checkpoint_every": 2,
            } | changes
        place = tmp_path / folder
        fake_rooms.write_project(place, yaml.safe_dump(params))
        monkeypatch.chdir(place)
        return place

    return make
