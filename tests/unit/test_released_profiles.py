"""The profiles of the released checkpoints: their settings, and that they evaluate without training."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from r1_searcher import params
from r1_searcher.benchmarks.releases import release_of
from r1_searcher.params import profiles
from r1_searcher.rollout.prompt import load_prompt

ROOT = Path(__file__).resolve().parents[2]
BASE = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
PROMPTS = Path(os.environ.get("R1SEARCHER_DATA", ROOT.parent / "shared" / "data")) / "r1searcher" / "prompts"
MODELS = {
    "released-qwen-7b": "XXsongLALA/Qwen-2.5-7B-base-RAG-RL",
    "released-llama-8b": "XXsongLALA/Llama-3.1-8B-instruct-RAG-RL",
}
BOTH = pytest.mark.parametrize("name", MODELS)


def composed(name: str) -> str:
    return profiles.composed(BASE, list(profiles.overlays(name, root=ROOT)))


@BOTH
def test_the_model_and_the_limits_are_the_releases(name: str) -> None:
    found = params.parse(composed(name))
    assert found.base_model.source == MODELS[name]
    rollout = found.rollout
    assert (rollout.max_searches, rollout.max_turn_tokens, rollout.max_total_tokens) == (8, 512, 29000)
    assert (found.evaluate.k, found.evaluate.policies) == (5, {"released": "data/base_model"})
    assert set(found.benchmarks.sets) == {"hotpotqa", "2wiki", "musique", "bamboogle"}
    assert found.benchmarks.questions == max(release_of(benchmark).num_questions for benchmark in found.benchmarks.sets)
    assert found.reward.set == ("released-base" if "qwen" in name else "released-instruct")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
@BOTH
def test_nothing_is_trained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Per DVC itself, the evaluation needs no other stage, above all not training."""
    from dvc.repo import Repo

    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text(composed(name), encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # DVC finds targets relative to the working folder
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        needed = {stage.addressing for stage in repo.stage.collect("evaluate_benchmark", with_deps=True)}
        every = {stage.addressing for stage in repo.index.stages}
    benchmarks = params.parse(composed(name)).benchmarks.sets
    expected = {f"benchmark@{benchmark}" for benchmark in benchmarks}
    expected |= {f"evaluate_benchmark@released-{benchmark}" for benchmark in benchmarks}
    assert needed == {"corpus", "index", "base_model"} | expected
    assert not any(stage.startswith("train@") for stage in every)
    # Every evaluation depends on the folder of trained policies. It is in git, so it exists even without any.
    blocks = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert "data/train" in blocks["evaluate_benchmark"]["deps"] and (ROOT / "data" / "train" / ".gitkeep").is_file()


@BOTH
def test_the_prompt_is_a_file_of_the_users(name: str) -> None:
    path = Path(params.parse(composed(name)).rollout.prompt)
    assert path.parent == Path("inputs/prompts") and not (ROOT / path).exists()
    released = PROMPTS / path.name
    if not released.exists():
        pytest.skip(f"{released} is not at hand; set R1SEARCHER_DATA")
    assert load_prompt(str(released)).is_chat == ("llama" in name)
