"""The recipe gate: its committed runs, what is compared with them, and what is refused. No training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shipped_profiles import shipped_profile

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError, Refused
from r1_searcher.files.artefacts import read_json, write_json
from r1_searcher.regression import page
from r1_searcher.regression.figures import FIGURES, protocol, protocol_differences, read_figures
from r1_searcher.regression.recipe import (
    LEAST,
    RECIPE_BASELINES,
    baseline_file,
    check_recipe,
    least_seeds,
    read_recipe_baseline,
)
from stages.regression.present import RECIPE_PROFILE

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = baseline_file(RECIPE_PROFILE, ROOT / RECIPE_BASELINES)
PRESENT = shipped_profile(RECIPE_PROFILE)


def test_the_committed_runs_can_be_compared_with_what_the_present_code_makes() -> None:
    """If this fails after an intended change: make baselines."""
    runs = read_recipe_baseline(COMMITTED, PRESENT)
    assert len(runs) >= LEAST
    facts = read_json(COMMITTED)["made_with"]
    assert facts["commits"] and facts["processor"]["instructions"] and facts["packages"]["torch"]


def committed() -> dict[str, dict[str, float]]:
    return read_recipe_baseline(COMMITTED, PRESENT)


def some(number: int, **moved: float) -> dict[str, dict[str, float]]:
    """Return the last committed runs under other seeds, with some figures moved."""
    picked = list(committed().values())[-number:]
    return {
        str(100 + seed): {name: value + moved.get(name, 0.0) for name, value in figures.items()}
        for seed, figures in enumerate(picked)
    }


def test_the_committed_runs_themselves_are_the_same() -> None:
    found = check_recipe(committed(), {seed: committed()[seed] for seed in ("0", "1", "2")})
    assert (found.verdict, list(found.unchanged)) == ("same", ["0", "1", "2"])
    assert "to the last digit" in page.recipe_headline(found)
    assert page.exit_status([found.verdict]) == 0


def test_runs_like_them_are_no_loss_and_a_loss_is_worse() -> None:
    found = check_recipe(committed(), some(6))
    assert (found.verdict, list(found.unchanged)) == ("no loss found", [])
    assert page.recipe_headline(found) == "recipe gate: no loss found: 6 runs against 24 committed ones"
    lost = check_recipe(committed(), some(6, stage1_reward=-0.15))
    assert lost.verdict == "worse" and page.exit_status([lost.verdict]) == 1
    assert page.recipe_headline(lost).endswith("committed ones (stage1_reward)")
    said = page.recipe_markdown(lost)
    assert said.startswith("## Recipe gate: ❌ worse\n") and said.count("| ❌ worse |") == 1
    assert page.recipe_lines(lost).splitlines()[0] == page.recipe_headline(lost)
    assert check_recipe(committed(), some(6, stage1_reward=0.3)).verdict == "better"


def test_one_seed_cannot_tell_and_says_how_many_can() -> None:
    assert (least_seeds(24), least_seeds(3)) == (2, 7)
    found = check_recipe(committed(), some(1, stage1_reward=-0.5))
    assert found.verdict == "too few" and "2 at least can tell" in page.recipe_headline(found)


def test_other_parameters_are_refused_with_their_lines_and_the_command_that_renews() -> None:
    train = PRESENT.train.model_copy(update={"stage1": PRESENT.train.stage1.model_copy(update={"learning_rate": 2.0})})
    with pytest.raises(Refused, match=r"train.stage1.learning_rate: 0.001, 2.0 \(.*make baselines PROFILE=smoke"):
        read_recipe_baseline(COMMITTED, PRESENT.model_copy(update={"train": train}))


def test_what_leaves_figures_alone_is_not_refused() -> None:
    other = PRESENT.model_copy(update={"threads": 7, "seed": 9, "profile": "x"})
    assert protocol_differences(protocol(PRESENT), protocol(other)) == []
    assert protocol_differences({"a": 1}, {"a": 1, "new": 2}) == [], "what is new is the code's business"
    assert protocol_differences({"a": 1, "gone": 2}, {"a": 1}) == ["gone: 2, absent"]


def cut(facts: dict[str, Any]) -> str:
    return json.dumps(facts)[:-40]


def without_a_figure(facts: dict[str, Any]) -> str:
    del facts["runs"]["3"]["stage1_reward"]
    return json.dumps(facts)


@pytest.mark.parametrize("spoil", [cut, without_a_figure, lambda facts: "[]", lambda facts: '{"runs": {}}'])
def test_a_damaged_baseline_is_refused_in_one_line(spoil: Callable[[dict[str, Any]], str], tmp_path: Path) -> None:
    path = tmp_path / "smoke.json"
    path.write_text(spoil(read_json(COMMITTED)), encoding="utf-8")
    with pytest.raises(Refused, match=r"smoke.json.*make baselines") as refused:
        read_recipe_baseline(path, PRESENT)
    assert "\n" not in str(refused.value)
    with pytest.raises(Refused, match=r"no runs of profile smoke are committed \(make baselines PROFILE=smoke\)"):
        read_recipe_baseline(tmp_path / "nothing.json", PRESENT)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a finished run's figures: 4 iterations of stage 1, 2 and 1 of stage 2."""
    (tmp_path / "plots/train").mkdir(parents=True)
    shutil.copy(ROOT / "r1_searcher/params/defaults.yaml", tmp_path / "params.yaml")
    text = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
    assert contract.parse(text).train.segments.keys() == {"s1-00", "s2-00"}
    rows: dict[str, list[tuple[float, float]]] = {
        "s1-00": [(0.2, 0), (0.4, 0), (0.6, 0), (0.8, 0)],
        "s2-00": [(-1.0, 0.5), (0.0, 1.0)],
    }
    for name, pairs in rows.items():
        lines = ["iteration,reward,search_rate", *(f"{n},{a},{b}" for n, (a, b) in enumerate(pairs))]
        (tmp_path / "plots/train" / f"{name}.csv").write_text("\n".join(lines))
    write_json(tmp_path / "metrics/base_model.json", {"sampled": {"format_rate": 0.5}, "greedy": {}})
    evaluation = {
        "base": {"held_out": {"format_rate": 0.1}},
        "stage2": {"held_out": {"format_rate": 1.0}, "comparison": {"format_rate": 0.5}},
        "no_search": {"held_out": {"format_rate": 0.0}},
    }
    write_json(tmp_path / "metrics/evaluation.json", evaluation)
    return tmp_path


def test_the_figures_of_a_run(workspace: Path) -> None:
    found = read_figures(workspace)
    assert found == pytest.approx(
        {
            "base_format_rate": 0.5,
            "stage1_reward": 0.5,
            "stage1_reward_end": 0.8,
            "stage2_reward": -0.5,
            "stage2_search_rate": 0.75,
            "final_format_rate": 0.75,
        }
    )
    assert [*found] == [*FIGURES]


@pytest.mark.parametrize("gone", ["plots/train/s2-00.csv", "metrics/base_model.json", "metrics/evaluation.json"])
def test_a_run_that_is_not_finished(workspace: Path, gone: str) -> None:
    (workspace / gone).unlink()
    with pytest.raises(PipelineError, match=gone):
        read_figures(workspace)


def test_a_figure_that_is_none(workspace: Path) -> None:
    write_json(workspace / "metrics/base_model.json", {"sampled": {"format_rate": None}})
    with pytest.raises(PipelineError, match="a figure cannot be read"):
        read_figures(workspace)
