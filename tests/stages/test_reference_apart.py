"""The reference policy in a separate process: the same log-probabilities, and the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures_update import make_policy
from safetensors.numpy import load_file
from tiny_project import make_project

from r1_searcher.files.artefacts import read_table
from r1_searcher.params import load
from r1_searcher.training.reference_worker import ReferenceWorker, read_reference
from r1_searcher.training.workers import WorkerSettings
from r1_searcher.types.schemas import ADVANTAGES, ROLLOUTS
from r1_searcher.update.reference import FrozenPolicy

KL: dict[str, Any] = {"update__kl_coefficient": 0.05}


def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from flows.train import train

    monkeypatch.chdir(place)
    train("s1")
    return place / "data/train/s1"


def test_apart_it_trains_as_it_does_beside_the_trainer(
    prefect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second iteration matters: in the first the policy is the reference."""
    beside = run(make_project(tmp_path / "beside", {}, **KL), monkeypatch)
    place = make_project(tmp_path / "apart", {"place": "local", "reference": 1}, **KL)
    apart = run(place, monkeypatch)
    assert (place / ".store/.workers/laptop-s1/reference-0.log").exists()
    for iteration in ("0000", "0001"):
        one, two = (read_table(made / "advantages" / f"{iteration}.parquet", ADVANTAGES) for made in (beside, apart))
        assert one["trajectory_id"] == two["trajectory_id"]
        for ours, theirs in zip(one["ref_logprobs"].to_pylist(), two["ref_logprobs"].to_pylist(), strict=True):
            assert ours and ours == pytest.approx(theirs, abs=1e-6)
    last = [load_file(made / "policy/model.safetensors") for made in (beside, apart)]
    for name, tensor in last[0].items():
        assert tensor == pytest.approx(last[1][name], abs=2e-5), name
    assert not list((place / ".store").glob("references/*/*"))


def test_it_scores_all_that_has_a_policy_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_project(tmp_path / "project", {}, **KL)
    monkeypatch.chdir(place)
    from r1_searcher.training.workbench import Workbench

    bench = Workbench("s1")
    made = bench.rollout(0)
    settings = WorkerSettings(load(), "stage1", Path("data/base_model"), bench.roots.retriever)
    ReferenceWorker(settings).logprobs(made.path, tmp_path / "reference.parquet")
    found = read_reference(tmp_path / "reference.parquet")
    for row in read_table(made.path, ROLLOUTS).to_pylist():
        assert found[row["trajectory_id"]] == pytest.approx(row["policy_logprobs"], abs=1e-5)  # it is still the policy


def test_the_temperature_is_the_samplings(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "policy")
    update = load(Path(__file__).resolve().parents[2] / "r1_searcher/params/defaults.yaml").update
    ids, mask = [[1, 2, 3, 4]], [[False, True, False, True]]
    cold, warm = (FrozenPolicy(policy, update, temperature=value).logprobs(ids, mask) for value in (1.0, 2.0))
    assert len(cold[0]) == 2 and cold != warm
