"""The scheduled run: order of stages, a stage that fails, and the deployments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.contract.artefacts import write_json
from stages.contract.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]


def test_stages_come_after_what_they_need() -> None:
    from flows.pipeline import order

    dot = (
        'strict digraph  {\n"report";\n"train@b";\n"train@a" -> "train@b";\n"train@b" -> "report";\n"a" -> "report";\n}'
    )
    assert order(dot) == ["a", "train@a", "train@b", "report"]
    with pytest.raises(PipelineError, match="stages need each other: x, y"):
        order('"x" -> "y";\n"y" -> "x";')


@pytest.fixture
def dvc(tmp_path: Path) -> dict[str, str]:
    """An environment in which `python -m dvc` is a script that says twelve lines and fails for one stage."""
    package = tmp_path / "fake" / "dvc"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import sys\n"
        "for n in range(30): print('line', n)\n"
        "if sys.argv[-1] == 'same': print(\"Stage 'same' didn't change, skipping\")\n"
        "if sys.argv[-1] == 'bad': sys.exit('error: the disk is full')\n"
    )
    return {**os.environ, "PYTHONPATH": str(tmp_path / "fake")}


def test_a_failing_stage_shows_its_last_lines(
    prefect: str, tmp_path: Path, dvc: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client

    from flows.pipeline import LAST_LINES, run_stage

    @flow
    def three() -> list[Any]:
        return [run_stage(stage, tmp_path, dvc) for stage in ("good", "same", "bad")]

    with pytest.raises(PipelineError) as caught:
        three()
    said = str(caught.value).splitlines()
    assert said[-1] == "error: the disk is full" and len(said) == LAST_LINES + 1
    assert "line 0" not in said
    with get_client(sync_client=True) as client:
        failed = [artifact for artifact in client.read_artifacts() if artifact.key == "failed-stage"]
    assert "the disk is full" in str(failed[0].data)


def test_what_ran_and_what_did_not(prefect: str, tmp_path: Path, dvc: dict[str, str]) -> None:
    from prefect import flow

    from flows.pipeline import run_stage

    @flow
    def two() -> list[Any]:
        return [run_stage(stage, tmp_path, dvc) for stage in ("good", "same")]

    assert [(row["stage"], row["ran"]) for row in two()] == [("good", True), ("same", False)]


def test_the_evaluation_as_a_table(tmp_path: Path) -> None:
    from flows.pipeline import evaluation_rows

    write_json(tmp_path / "metrics/evaluation.json", {"base": {"held_out": {"n": 3, "em": 0.33333, "ci": [0, 1]}}})
    assert evaluation_rows(tmp_path) == [{"policy": "base", "benchmark": "held_out", "n": 3, "em": 0.333}]


def test_deployments_name_flows_and_profiles_that_exist() -> None:
    import importlib

    found = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert {deployment["name"] for deployment in found} == {"smoke", "laptop"}
    for deployment in found:
        path, _, name = deployment["entrypoint"].partition(":")
        assert hasattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert (ROOT / "profiles" / f"{deployment['parameters']['profile']}.yaml").exists()
