"""The scheduled run: order of stages, a stage that fails, and the deployments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from living import lives

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import write_json

ROOT = Path(__file__).resolve().parents[2]


def test_stages_come_after_what_they_need() -> None:
    from flows.dag import graph, lines, order

    dot = (
        'strict digraph  {\n"report";\n"train@b";\n"train@a" -> "train@b";\n"train@b" -> "report";\n"a" -> "report";\n}'
    )
    needs = graph(dot)
    assert order(needs) == ["a", "train@a", "train@b", "report"]
    assert order(needs, ["train@b"]) == ["train@a", "train@b"]
    with pytest.raises(PipelineError, match=r"no stage 'train@c' \(known: a, report, train@a, train@b\)"):
        order(needs, ["train@c"])
    with pytest.raises(PipelineError, match="stages need each other: x, y"):
        order(graph('"x" -> "y";\n"y" -> "x";'))
    assert lines(needs) == ["a", "train (2)", "report  after a, train"]
    assert lines(needs, width=16) == ["a", "train (2)", "report  after a,", "    train"]


@pytest.fixture
def dvc(tmp_path: Path) -> Any:
    """A workspace in whose environment `python -m dvc` is a script that prints twelve lines and fails for one stage."""
    package = tmp_path / "fake" / "dvc"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import sys\n"
        "for n in range(30): print('line', n)\n"
        "if sys.argv[-1] == 'same': print(\"Stage 'same' didn't change, skipping\")\n"
        "if sys.argv[-1] == 'old': print(\"Stage 'old' is cached - skipping run, checking out outputs\")\n"
        "if sys.argv[-1] == 'long':\n"
        "    import subprocess, time\n"
        "    print('child', subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "    time.sleep(600)\n"
        "if sys.argv[-1] == 'bad': sys.exit('error: the disk is full')\n"
    )
    from flows.workspace import Workspace
    from flows.worktrees import workspace_environment

    # A workspace's own environment, whatever the caller's: in it a stage's error is its last line.
    return Workspace("Fake", tmp_path, {**workspace_environment(tmp_path), "PYTHONPATH": str(tmp_path / "fake")})


def test_a_failing_stage_shows_its_last_lines(prefect: str, dvc: Any) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client

    from flows.workspace import LAST_LINES, run_stage

    @flow
    def three() -> list[Any]:
        return [run_stage(stage, dvc) for stage in ("good", "same", "bad")]

    with pytest.raises(PipelineError) as caught:
        three()
    assert str(caught.value) == "bad: the stage failed: error: the disk is full (see its lines in the log above)"
    with get_client(sync_client=True) as client:
        failed = [artifact for artifact in client.read_artifacts() if artifact.key == "fake-failed-stage"]
    shown = str(failed[0].data).split("```")[1].strip().splitlines()
    assert len(shown) == LAST_LINES and shown[-2:] == ["line 29", "error: the disk is full"]


def test_what_became_of_each_stage(prefect: str, dvc: Any) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client

    from flows.workspace import run_stage

    @flow
    def three() -> list[Any]:
        return [run_stage(stage, dvc) for stage in ("good", "same", "old")]

    assert [(row["stage"], row["outcome"]) for row in three()] == [
        ("good", "ran"),
        ("same", "unchanged"),
        ("old", "from the cache"),
    ]
    with get_client(sync_client=True) as client:
        assert {"Fake good", "Fake same"} <= {run.name for run in client.read_task_runs()}


def test_a_cancelled_stage_ends_with_all_that_it_started(prefect: str, dvc: Any, monkeypatch: Any) -> None:
    from prefect import flow

    from flows import workspace

    pids: list[int] = []

    def interrupted(line: str) -> None:
        if line.startswith("child"):
            pids.append(int(line.split()[1]))
            raise KeyboardInterrupt

    monkeypatch.setattr(workspace, "say", interrupted)

    @flow
    def one() -> None:
        workspace.run_stage("long", dvc)

    with pytest.raises(KeyboardInterrupt):
        one()
    assert len(pids) == 1
    assert not lives(pids[0])


def test_the_stages_report_to_the_server_of_the_run(prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.workspace import stage_environment

    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "the scheduled run's, and not the segment's")
    environment = stage_environment()
    assert environment["PREFECT_API_URL"] == prefect
    assert not any(name.startswith("PREFECT__") for name in environment)


def test_lengths_of_segments() -> None:
    from flows.pipeline import lengths

    assert lengths(["s1-00=4", "s2-00=12"]) == {"s1-00": 4, "s2-00": 12}
    for wrong in ("s1-00", "=4", "s1-00=-1", "s1-00=many"):
        with pytest.raises(PipelineError, match="not a segment and a number"):
            lengths([wrong])


def test_the_evaluation_as_a_table(tmp_path: Path) -> None:
    from flows.pipeline import evaluation_rows

    write_json(tmp_path / "metrics/evaluation.json", {"base": {"held_out": {"n": 3, "em": 0.33333, "em_ci": [0, 1]}}})
    row = {"policy": "base", "benchmark": "held_out", "n": 3, "em": 0.333, "em_ci": "0.000 to 1.000"}
    assert evaluation_rows(tmp_path) == [row]
    two = {"comparison": {"em": 0.5, "n": 1}, "held_out": {"em": 0.5, "f1": 1.0, "f1_ci": [0.0, 1.0], "cover_em": 1.0}}
    write_json(tmp_path / "metrics/evaluation.json", {"base": two})
    first, second = evaluation_rows(tmp_path)
    assert list(first) == list(second) == ["policy", "benchmark", "n", "cover_em", "f1", "f1_ci", "em"]
    assert (first["cover_em"], first["f1"], second["n"], second["f1_ci"]) == ("", "", "", "0.000 to 1.000")


def test_deployments_name_flows_and_profiles_that_exist() -> None:
    import importlib
    import inspect

    found = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    names = set()
    for deployment in found:
        path, _, name = deployment["entrypoint"].partition(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        names.add(f"{flow.name}/{deployment['name']}")
        assert set(deployment["parameters"]) <= set(inspect.signature(flow.fn).parameters)
        assert (ROOT / "profiles" / f"{deployment['parameters']['profile']}.yaml").exists()
        assert deployment["work_pool"] == {"name": "local"}
    assert names >= {
        "pipeline/pipeline-smoke",
        "pipeline/pipeline-laptop",
        "index/index-laptop",
        "regression/regression-smoke",
    }
    assert len(names) == len(found)
    nightly = [deployment["entrypoint"] for deployment in found if active(deployment)]
    assert nightly == ["flows/regression.py:regression"]


def active(deployment: dict[str, Any]) -> bool:
    return any(schedule.get("active", True) for schedule in deployment.get("schedules", []))


def test_a_failed_stages_lines_cannot_leave_their_block() -> None:
    from r1_searcher.shown import fenced

    assert fenced("plain") == "```\nplain\n```"
    hostile = "```\n![x](http://example.org)\n````"
    shown = fenced(hostile)
    assert shown.splitlines()[0] == shown.splitlines()[-1] == "`" * 5
    assert shown.splitlines()[1:-1] == hostile.splitlines()
