"""Continuous integration: what it runs of others is fixed, and what it runs of ours has no rights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.y*ml"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_a_workflow_runs_fixed_actions_and_can_change_nothing(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    for line in used:
        assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), (
            f"{line}: a commit, and its version behind it"
        )
    workflow: dict[Any, Any] = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    triggers = workflow[True]  # "on", as YAML 1.1 reads it
    assert "pull_request_target" not in triggers and "workflow_run" not in triggers
    for job in workflow["jobs"].values():
        assert "permissions" not in job and "secrets" not in job
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            assert "${{" not in step.get("run", ""), "text of others would be a part of the script"
