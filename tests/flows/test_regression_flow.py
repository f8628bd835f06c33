"""Both gates as a flow: pages, exit statuses, and that a refusal is found before any training."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r1_searcher.errors import PipelineError, Refused
from r1_searcher.files.artefacts import read_json, write_json
from r1_searcher.regression.code import CodeResult

ROOT = Path(__file__).resolve().parents[2]
RUNS = read_json(ROOT / "baselines/recipe/smoke.json")["runs"]
KIND = {"architecture": "x86_64", "maker": "Any", "instructions": "AVX2", "torch": "2"}


class Trained:
    """Replaces the workspaces: which seeds were trained, and their figures."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.moved: dict[str, float] = {}
        self.fault: str | None = None

    def figures(self, seed: int) -> dict[str, float]:
        return {name: value + self.moved.get(name, 0.0) for name, value in RUNS[str(seed)].items()}


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: str) -> Trained:
    """A checkout with the committed runs, a code gate that passes, and workspaces that are not made."""
    import flows
    from flows import regression
    from flows.workspace import Workspace
    from r1_searcher.statistics.comparison import Comparison
    from r1_searcher.statistics.verdict import Rule

    (tmp_path / "profiles").mkdir()
    shutil.copy(ROOT / "r1_searcher/params/defaults.yaml", tmp_path / "params.yaml")
    for name in ("smoke", "laptop"):
        shutil.copy(ROOT / f"profiles/{name}.yaml", tmp_path / "profiles")
    shutil.copytree(ROOT / "baselines/recipe", tmp_path / "baselines/recipe")
    done = Trained()

    @contextlib.contextmanager
    def open_workspace(profile: str, *, seed: int, changes: list[str]) -> Iterator[Workspace]:
        done.seeds.append(seed)
        place = tmp_path / f"{profile}-seed{seed}"
        place.mkdir(exist_ok=True)
        shutil.copy(ROOT / "r1_searcher/params/defaults.yaml", place / "params.yaml")
        yield Workspace(place.name, place, {})

    def run_stages(place: Workspace, targets: tuple[str, ...]) -> list[dict[str, Any]]:
        assert set(targets) == {"summary", "base_metrics"}
        if done.fault:
            raise PipelineError(done.fault, where="train@s1-00")
        return [{"stage": "summary", "outcome": "unchanged", "seconds": 0.0}]

    same = CodeResult(KIND, KIND, 600, [], 0, Comparison(("a", "b"), "same", Rule(0.02, 0.95, 0.8), []))
    monkeypatch.setattr(flows, "ROOT", tmp_path)
    monkeypatch.setattr(regression, "open_workspace", open_workspace)
    monkeypatch.setattr(regression, "run_stages", run_stages)
    monkeypatch.setattr(regression, "read_figures", lambda place: done.figures(int(place.name.rpartition("seed")[2])))
    monkeypatch.setattr("r1_searcher.regression.code.check_code", lambda *_, **__: same)
    monkeypatch.setenv("PREFECT_API_URL", prefect)
    return done


def said(tmp_path: Path) -> str:
    return (tmp_path / "verdict.md").read_text(encoding="utf-8")


def run(tmp_path: Path, *arguments: str) -> int:
    from flows.regression import main

    return main([*arguments, "--markdown", str(tmp_path / "verdict.md")])


def test_the_committed_runs_pass(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 0
    assert trained.seeds == [0, 1, 2, 3, 4, 5]
    assert "## Code gate: ✅ same\n" in said(tmp_path) and "## Recipe gate: ✅ same\n" in said(tmp_path)
    assert "recipe gate: same: the figures of all 6 runs" in capsys.readouterr().out


def test_worse_fails_with_artifacts(trained: Trained, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    trained.moved = {"stage1_reward": -0.2}
    assert run(tmp_path, "--seeds", "4") == 1
    assert trained.seeds == [0, 1, 2, 3]
    assert "## Recipe gate: ❌ worse\n" in said(tmp_path)
    with get_client(sync_client=True) as client:
        artifacts = [(found.key, str(found.data)) for found in client.read_artifacts()]
        states = [found.state for found in client.read_flow_runs() if found.name == "smoke regression"]
    (worse,) = [text for _, text in artifacts if text.startswith("## Recipe gate: ❌ worse")]
    assert ("smoke-recipe-verdict", worse) in artifacts and worse in said(tmp_path)
    assert any(key == "smoke-code-verdict" and text.startswith("## Code gate: ✅ same") for key, text in artifacts)
    messages = [str(state and state.message) for state in states]
    assert any("recipe gate: worse: 4 runs against 24 committed ones (stage1_reward)" in line for line in messages)


def test_a_baseline_of_other_parameters_is_refused_before_anything_is_trained(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baselines/recipe/smoke.json"
    facts = json.loads(path.read_text())
    facts["protocol"]["rollout.k"] = 9
    write_json(path, facts)
    assert run(tmp_path) == 4
    assert trained.seeds == []
    assert "## Recipe gate: ⛔ refused\n" in said(tmp_path) and "rollout.k: 9, 2" in said(tmp_path)
    assert "worse" not in said(tmp_path) and "## Code gate: ✅ same\n" in said(tmp_path)
    assert "make baselines PROFILE=smoke" in capsys.readouterr().out


def test_no_baseline_at_all_is_refused(trained: Trained, tmp_path: Path) -> None:
    assert run(tmp_path, "--profile", "laptop") == 4
    assert "no runs of profile laptop are committed" in said(tmp_path) and trained.seeds == []


def test_a_run_that_fails_is_an_error_on_the_page(trained: Trained, tmp_path: Path) -> None:
    trained.fault = "training collapsed at iteration 9"
    assert run(tmp_path) == 2
    assert "## Recipe gate: ⛔ error\n" in said(tmp_path) and "seed 0 did not finish" in said(tmp_path)
    assert "training collapsed at iteration 9" in said(tmp_path)


def test_the_gravest_of_both_gates_is_the_status(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(*_: Any, **__: Any) -> CodeResult:
        raise Refused("unreadable")

    monkeypatch.setattr("r1_searcher.regression.code.check_code", refuse)
    assert run(tmp_path) == 4
    assert "## Code gate: ⛔ refused\n" in said(tmp_path) and "## Recipe gate: ✅ same\n" in said(tmp_path)
    trained.moved = {"stage1_reward": -0.2}
    assert run(tmp_path) == 1
