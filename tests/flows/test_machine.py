"""A profile for GPUs stops with one line on a machine without them, however it is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.plan.machine import Machine
from r1_searcher.plan.memory import GIB

ROOT = Path(__file__).resolve().parents[2]
BASE = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
SEGMENTS = {"s1": {"stage": "stage1", "prev": "data/base_model", "iterations": 1, "iteration_offset": 0}}
ONE_GPU = {"gpus": 1, "gpu_memory_gib": 24, "trainer_gpus": 1, "engine_gpus": 1}
NO_GPU = r"profile laptop needs 1 GPU of 24 GB, and this machine has none"
BARE = Machine(gpus=(), memory=1000 * GIB, disk=10_000 * GIB)
CARD = Machine(gpus=(24 * GIB,), memory=1000 * GIB, disk=10_000 * GIB)


def with_gpu(text: str, **workers: Any) -> str:
    raw = yaml.safe_load(text)
    raw["hardware"] |= ONE_GPU
    raw["workers"] |= workers
    return yaml.safe_dump(raw)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1_searcher.plan.machine.this_machine", lambda: BARE)


@pytest.fixture
def gpu_project(project: Callable[..., Path], bare: None) -> Path:
    place = project("gpu", SEGMENTS)
    (place / "params.yaml").write_text(with_gpu((place / "params.yaml").read_text()))
    return place


def test_the_command_of_dvcs_stages_stops_before_anything_starts(
    gpu_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows import server, train

    monkeypatch.setattr(server, "prefect_server", lambda **_: pytest.fail("a server was started"))
    assert train.main(["--segment", "s1"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "needs 1 GPU of 24 GB, and this machine has none" in line and "PROFILE=laptop" in line
    assert not (gpu_project / "data" / "train").exists()


def test_so_does_the_flow_itself(prefect: str, gpu_project: Path) -> None:
    from flows.train import train

    with pytest.raises(PipelineError, match=NO_GPU):
        train("s1")
    assert not (gpu_project / "data" / "train").exists()


@pytest.mark.parametrize("flow", ["pipeline", "regression"])
def test_a_deployment_stops_before_its_first_stage(
    flow: str, prefect: str, bare: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import contextlib
    import importlib

    from flows.workspace import Workspace

    (tmp_path / "params.yaml").write_text(with_gpu(BASE))
    module = importlib.import_module(f"flows.{flow}")
    opened = contextlib.nullcontext(Workspace("gpu", tmp_path, {}))
    monkeypatch.setattr(module, "open_workspace", lambda *_, **__: opened)
    monkeypatch.setattr(module, "run_stages", lambda *_: pytest.fail("a stage was run"))
    if flow == "regression":  # its checks before any training passed
        monkeypatch.setattr(module, "judge_code", lambda *_: module.GateVerdict("same", "", ""))
        monkeypatch.setattr(module, "profile_params", lambda *_: None)  # of the checkout, whatever its params.yaml says
        monkeypatch.setattr(module.recipe, "read_recipe_baseline", lambda *_: {})
    with pytest.raises(PipelineError, match=NO_GPU):
        getattr(module, flow)("laptop")


def test_a_profile_without_gpus_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.machine import check_machine

    monkeypatch.setattr("r1_searcher.plan.machine.this_machine", lambda: pytest.fail("the machine was asked"))
    assert check_machine(contract.parse(BASE)) == ""
    # Ray counts the GPUs of its cluster itself; they need not be this machine's.
    assert check_machine(contract.parse(with_gpu(BASE, place="ray"))) == ""


def test_the_model_is_read_where_it_is_known_by_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.machine import check_machine

    monkeypatch.setattr("r1_searcher.plan.machine.this_machine", lambda: CARD)
    raw = yaml.safe_load(with_gpu(BASE))
    raw["base_model"]["source"] = "model.gguf"
    found = contract.parse(yaml.safe_dump(raw))
    with pytest.raises(PipelineError, match="is not known here"):
        check_machine(found)
    with pytest.raises(PipelineError, match=r"no config\.json"):
        check_machine(found, tmp_path)
