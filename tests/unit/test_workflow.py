"""Continuous integration: third-party actions are pinned, and our own steps have no rights."""

from __future__ import annotations

import json
import re
import subprocess
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


def test_the_hooks_mend_what_they_are_given(tmp_path: Path) -> None:
    """Each on a file of every type that it takes, with the ruff that it names."""
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": ["import  os"],
    }
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    ugly = {"python": "import  os\n", "jupyter": json.dumps(notebook), "markdown": "```python\nimport  os\n```\n"}
    endings = {"python": "py", "jupyter": "ipynb", "markdown": "md"}
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    for hook in hooks:
        for kind in set(hook["types_or"]) - {"pyi"}:
            file = tmp_path / f"file.{endings[kind]}"
            file.write_text(ugly[kind], encoding="utf-8")
            command = [str(ROOT / hook["entry"].split()[0]), *hook["entry"].split()[1:], "--no-cache"]
            command += ["--select=F401"] if hook["id"] == "ruff-check" else []
            done = subprocess.run([*command, file.name], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "import  os" not in file.read_text(encoding="utf-8"), (hook["id"], kind)


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    assert citation["preferred-citation"]["url"].endswith("/2503.05592")
    assert {"title", "authors", "message", "cff-version"} <= citation.keys()
