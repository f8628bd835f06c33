"""`make baselines`: both are written from runs in workspaces, and the gates accept them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher.files.artefacts import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {"reward": 0.5, "search_rate": 0.25}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: str) -> Path:
    """A checkout whose workspaces hold finished runs: requested stages are recorded, and not run."""
    import flows
    from flows import baselines
    from flows.workspace import Workspace
    from r1_searcher.params import profiles

    (tmp_path / "profiles").mkdir()
    shutil.copy(ROOT / "r1_searcher/params/defaults.yaml", tmp_path / "params.yaml")
    for name in ("smoke", "laptop"):
        shutil.copy(ROOT / f"profiles/{name}.yaml", tmp_path / "profiles")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)

    @contextlib.contextmanager
    def open_workspace(profile: str, *, seed: int = 0) -> Iterator[Workspace]:
        place = tmp_path / ".workspaces" / f"{profile}-seed{seed}"
        parts = list(profiles.overlays(profile, seed=seed, root=tmp_path))
        text = profiles.composed(profiles.base_text(tmp_path), parts)
        (place / "plots/train").mkdir(parents=True)
        (place / "params.yaml").write_text(text)
        for name in yaml.safe_load(text)["train"]["segments"]:
            rows = [",".join(FIGURES), ",".join(map(str, FIGURES.values()))]
            (place / f"plots/train/{name}.csv").write_text("\n".join(rows))
        write_json(place / "metrics/base_model.json", {"sampled": {"format_rate": seed / 10}})
        write_json(place / "metrics/evaluation.json", {"stage2": {"held_out": {"format_rate": 1.0}}})
        yield Workspace(place.name, place, {})

    def run_stages(place: Workspace, targets: tuple[str, ...]) -> list[dict[str, Any]]:
        asked.append((place.name, *targets))
        return []

    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(flows, "ROOT", tmp_path)
    monkeypatch.setattr(baselines, "open_workspace", open_workspace)
    monkeypatch.setattr(baselines, "run_stages", run_stages)
    monkeypatch.setenv("PREFECT_API_URL", prefect)
    return tmp_path


def test_the_recipe_gate_accepts_the_runs_that_were_written(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.baselines import main
    from r1_searcher.regression.recipe import read_recipe_baseline
    from stages.regression.present import profile_params

    assert main(["--only", "recipe", "--seeds", "3"]) == 0
    assert "baselines/recipe/smoke.json: 3 runs" in capsys.readouterr().out
    path = checkout / "baselines/recipe/smoke.json"
    runs = read_recipe_baseline(path, profile_params("smoke", checkout))
    assert [figures["base_format_rate"] for figures in runs.values()] == [0.0, 0.1, 0.2]
    assert {figures["stage1_reward"] for figures in runs.values()} == {0.5}
    made = read_json(path)["made_with"]
    assert len(made["commits"]) == 1 and len(made["commits"][0]) == 40


def test_both_are_made_unless_one_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import baselines

    made: list[tuple[str, ...]] = []

    def make(workspace: Path, out: Path, params: Any) -> int:
        made.append((workspace.name, out.relative_to(checkout).as_posix(), params.profile))
        return 1

    monkeypatch.setattr("r1_searcher.regression.code.make_code_baseline", make)
    assert baselines.main(["--seeds", "2"]) == 0
    assert made == [("laptop-seed0", "baselines/code", "laptop")]
    assert (checkout / "baselines/recipe/smoke.json").is_file()
    assert baselines.main(["--seeds", "0"]) == 2
