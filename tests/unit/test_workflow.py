"""Continuous integration: what it runs of others is fixed, and what it runs of ours has no rights."""

from __future__ import annotations

import re
import tomllib
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


def test_a_release_is_built_and_checked_as_continuous_integration_does() -> None:
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    assert release[True] == {"push": {"tags": ["v*"]}}
    runs = [step["run"] for job in release["jobs"].values() for step in job["steps"] if "run" in step]
    assert runs == ['.ci/release "$GITHUB_REF_NAME"']
    assert "- run: .ci/release " in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    script = (ROOT / ".ci/release").read_text(encoding="utf-8")
    assert "--require-hashes --no-deps -r locks/build.lock" in script and "git archive" in script


def test_forms_and_hooks_are_what_their_readers_take() -> None:
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        read = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert form.stem == "config" or all(part["attributes"]["label"] for part in read["body"]), form
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"], "a hook of others would be fetched without a lock"
    assert all(hook["entry"].startswith(".venv/bin/ruff ") for hook in hooks[0]["hooks"])


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    assert citation["preferred-citation"]["url"].endswith("/2503.05592")
    assert {"title", "authors", "message", "cff-version"} <= citation.keys()
