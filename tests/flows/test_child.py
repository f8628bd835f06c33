"""A training segment under a scheduled run: to Prefect it is the run's child, and it ends with the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_rooms
import psutil
import pytest
from living import lives

ROOT = Path(__file__).resolve().parents[2]
ONE = {"s1": {"stage": "stage1", "prev": "data/base_model", "iterations": 3, "iteration_offset": 0}}
DVC = f"""\
import os, signal, subprocess, sys
print("dvc", os.getpid(), flush=True)
stage = subprocess.Popen([sys.executable, {str(Path(fake_rooms.__file__))!r}, "s1"])
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as DVC waits for a stage that ends itself
sys.exit(stage.wait())
"""


@pytest.fixture
def place(project: Callable[..., Path], prefect: str, tmp_path: Path) -> Any:
    """A workspace in whose environment `dvc repro` is a shell's child that trains the segment with quick fakes."""
    from flows.workspace import Workspace, stage_environment

    (tmp_path / "fake/dvc").mkdir(parents=True)
    (tmp_path / "fake/dvc/__init__.py").touch()
    (tmp_path / "fake/dvc/__main__.py").write_text(DVC)
    path = os.pathsep.join(map(str, (tmp_path / "fake", ROOT, ROOT / "tests")))
    folder = project("child", ONE)
    own = {"PYTHONPATH": path, "R1SEARCHER_STORE": str(folder / ".store")}
    return Workspace("Fake", folder, {**stage_environment(), **own})


def family(parent: Any) -> list[Any]:
    """Return the flow runs that Prefect has below a flow run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=below)


def test_a_segment_is_the_runs_child(place: Any) -> None:
    from prefect import flow
    from prefect.runtime import flow_run

    from flows.workspace import run_stage

    @flow
    def one() -> Any:
        run_stage("train", place)
        return flow_run.id

    (child,) = family(one())
    assert (child.name, child.state_name) == ("laptop s1", "Completed")
    assert (place.folder / "data/train/s1/policy").is_dir()


def test_a_segment_is_cancelled_with_the_run_and_nothing_of_it_is_left(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow
    from prefect.runtime import flow_run

    from flows import workspace

    place.environment["FAKE_MEETING"] = str(tmp_path)  # it does not reach its second iteration
    started: list[psutil.Process] = []
    parents: list[Any] = []

    def interrupted(line: str) -> None:
        if line.startswith("dvc"):
            started.append(psutil.Process(int(line.split()[1])))
        if line.endswith("starts"):
            started.extend(started[0].children(recursive=True))
            raise KeyboardInterrupt

    monkeypatch.setattr(workspace, "say", interrupted)

    @flow
    def one() -> None:
        parents.append(flow_run.id)
        workspace.run_stage("train", place)

    with pytest.raises(KeyboardInterrupt):
        one()
    assert len(started) >= 2
    assert not any(lives(process.pid) for process in started)
    (child,) = family(parents[0])
    assert (child.name, child.state_name) == ("laptop s1", "Cancelled")


def test_a_parent_that_the_server_does_not_know_is_none(place: Any) -> None:
    from uuid import uuid4

    from prefect import flow

    from flows import child_flow

    @flow
    def alone() -> int:
        return 3

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(child_flow.PARENT, str(uuid4()))
        assert child_flow.run_as_child(alone) == 3
    assert child_flow.parent_environment() == {}
