"""update_policy and ``python -m stages.update``, from tables to tables and files to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from fixtures_update import make_policy, make_rewards, make_rollouts, update_params

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.transcripts import grammar
from r1_searcher.types import schemas
from r1_searcher.types.protocols import TrainingBatch
from r1_searcher.update import update_policy
from stages.update.__main__ import main

PARAMS = Path(__file__).resolve().parents[2] / "r1_searcher/params/defaults.yaml"


class RecordingTrainer:
    """Records batches; its reference is 0.25 below the expected log-probabilities it was given."""

    iteration = 0

    def __init__(self, expected: list[list[float]] | None = None) -> None:
        self.expected = expected
        self.batches: list[TrainingBatch] = []

    def logprobs(self, token_ids: Any, policy_mask: Any) -> list[list[float]]:
        raise AssertionError("update_policy needs no present log-probabilities")

    def reference_logprobs(self, token_ids: Any, policy_mask: Any) -> list[list[float]]:
        assert self.expected is not None
        return [[value - 0.25 for value in row] for row in self.expected]

    def update(self, batch: TrainingBatch) -> Mapping[str, float]:
        self.batches.append(batch)
        return {"loss": 0.5}

    def export_weights(self) -> Mapping[str, Any]:
        raise AssertionError("update_policy exports nothing")

    def save_policy(self, policy: Path, *, step: int, parent: str) -> str:
        raise AssertionError("update_policy saves nothing")

    def save(self, policy: Path, *, step: int, parent: str, trainer_state: Path | None = None) -> None: ...

    def load(self, policy: Path, trainer_state: Path | None = None) -> None: ...


def test_rewards_are_aligned_by_id_and_only_policy_tokens_have_advantages() -> None:
    rollouts = make_rollouts()
    rewards = make_rewards(rollouts, [float(row % 4 == 0) for row in range(16)])
    trainer = RecordingTrainer()
    table, metrics = update_policy(trainer, rollouts, rewards.take(list(range(15, -1, -1))), update_params())
    assert table.schema.equals(schemas.ADVANTAGES)
    assert table["trajectory_id"].to_pylist() == rollouts["trajectory_id"].to_pylist()
    batch = trainer.batches[0]
    for row in range(16):
        sources = rollouts["token_source"][row].as_py()
        assert batch.policy_mask[row] == [source == grammar.POLICY for source in sources]
        assert len(batch.advantages[row]) == sources.count(grammar.POLICY) == len(table["advantages"][row])
        assert (min(batch.advantages[row]) > 0) == (row % 4 == 0)  # the rewarded ones
    assert metrics == {
        "loss": 0.5,
        "num_trajectories": 16,
        "num_left_out": 0,
        "num_groups": 4,
        "num_zero_advantage_groups": 0,
    }
    assert table["ref_logprobs"].to_pylist() == [[]] * 16


def test_uncounted_and_empty_trajectories_are_left_out() -> None:
    rollouts = make_rollouts()
    rows = rollouts.to_pylist()
    rows[5] |= {"policy_logprobs": [], "token_source": [grammar.PROMPT] * len(rows[5]["token_ids"])}
    rollouts = pa.Table.from_pylist(rows, schema=schemas.ROLLOUTS)
    totals = [1.0] * 8 + [float(row % 2) for row in range(8)]
    trainer = RecordingTrainer()
    table, metrics = update_policy(
        trainer, rollouts, make_rewards(rollouts, totals, uncounted=("q0#2", "q3#0")), update_params()
    )
    assert not {"q0#2", "q3#0", "q1#1"} & set(table["trajectory_id"].to_pylist())
    assert (metrics["num_trajectories"], metrics["num_left_out"]) == (13, 3)
    assert (metrics["num_groups"], metrics["num_zero_advantage_groups"]) == (4, 2)
    # q3 has three samples left, of reward 1, 0, 1: the one left out has no weight in their mean
    returns = dict(zip(table["trajectory_id"].to_pylist(), table["returns"].to_pylist(), strict=True))
    assert returns["q3#1"][0] == pytest.approx(1 / 3)
    assert returns["q3#2"][0] == pytest.approx(-2 / 3)


def test_kl_goes_into_the_returns() -> None:
    rollouts = make_rollouts()
    old = rollouts["policy_logprobs"].to_pylist()
    update = update_params(kl_coefficient=0.1, estimator="rloo")
    table, metrics = update_policy(RecordingTrainer(old), rollouts, make_rewards(rollouts, [2.0] * 16), update)
    assert metrics["kl_reference_k1"] == pytest.approx(0.25)
    assert metrics["kl_reference_k3"] == pytest.approx(np.exp(-0.25) - 1 + 0.25)
    for logprobs, row in zip(old, table.to_pylist(), strict=True):
        left = np.arange(len(logprobs), 0, -1)  # policy tokens from here to the end
        np.testing.assert_allclose(row["returns"], -0.1 * 0.25 * left, rtol=1e-5)  # equal rewards: KL alone
        np.testing.assert_allclose(row["ref_logprobs"], np.array(logprobs) - 0.25, rtol=1e-6)


def test_flat_groups_are_dropped_and_counted() -> None:
    """They keep their places where the loss is averaged, and cost neither a pass nor a reference."""
    rollouts = make_rollouts()
    old = rollouts["policy_logprobs"].to_pylist()
    totals = [1.0] * 8 + [float(row % 2) for row in range(8)]
    trainer = RecordingTrainer(old[8:])
    update = update_params(flat_groups="dropped", kl_coefficient=0.1, estimator="rloo")
    table, metrics = update_policy(trainer, rollouts, make_rewards(rollouts, totals), update)
    batch = trainer.batches[0]
    assert len(batch.token_ids) == table.num_rows == 16 and batch.dropped == frozenset(range(8))
    assert all(value == 0 for row in batch.advantages[:8] for value in row)
    assert table["ref_logprobs"].to_pylist()[:8] == [[]] * 8
    assert metrics["kl_reference_k1"] == pytest.approx(0.25)
    counts = ("num_trajectories", "num_left_out", "num_zero_advantage_groups", "num_dropped_trajectories")
    assert [metrics[name] for name in counts] == [16, 0, 2, 8]
    update_policy(trainer, rollouts, make_rewards(rollouts, [1.0] * 16), update)  # all of them
    assert trainer.batches[1].dropped == frozenset(range(16))


def test_overlong_trajectories_are_compared_and_left_out() -> None:
    rollouts = make_rollouts()
    rows = rollouts.to_pylist()
    for row in (1, 6):
        rows[row]["finish_reason"] = grammar.FINISH_LENGTH_LIMIT
    rollouts = pa.Table.from_pylist(rows, schema=schemas.ROLLOUTS)
    totals = [1.0, 0.0, 0.0, 0.0] + [float(row % 2) for row in range(12)]
    trainer = RecordingTrainer()
    rewards = make_rewards(rollouts, totals)
    table, metrics = update_policy(trainer, rollouts, rewards, update_params(overlong="left_out"))
    assert not {"q0#1", "q1#2"} & set(table["trajectory_id"].to_pylist())
    assert trainer.batches[0].trajectory_ids == table["trajectory_id"].to_pylist()
    assert (metrics["num_trajectories"], metrics["num_left_out"], metrics["num_overlong"]) == (14, 2, 2)
    returns = dict(zip(table["trajectory_id"].to_pylist(), table["returns"].to_pylist(), strict=True))
    assert returns["q0#0"][0] == pytest.approx(0.75)  # 1 - the mean of all four
    tokens = np.concatenate(table["advantages"].to_pylist())
    assert tokens.mean() == pytest.approx(0, abs=1e-6) and tokens.std() == pytest.approx(1, abs=1e-5)
    _, kept = update_policy(trainer, rollouts, rewards, update_params())
    assert kept["num_trajectories"] == 16 and "num_overlong" not in kept
    for row in rows:
        row["finish_reason"] = grammar.FINISH_LENGTH_LIMIT
    rollouts = pa.Table.from_pylist(rows, schema=schemas.ROLLOUTS)
    with pytest.raises(PipelineError, match=r"update\.overlong: all 16 trajectories ended at rollout\.max_total_tok"):
        update_policy(trainer, rollouts, rewards, update_params(overlong="left_out"))


def changed(rollouts: pa.Table, row: int, **values: Any) -> pa.Table:
    rows = rollouts.to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, schema=rollouts.schema)


def test_tables_that_do_not_belong_together_are_refused() -> None:
    rollouts, trainer = make_rollouts(), RecordingTrainer()
    rewards = make_rewards(rollouts)
    cases = [
        (rollouts, rewards.slice(1), "'q0#0' is only in the rollouts"),
        (rollouts.slice(0, 8), rewards, "'q2#0' is only in the rewards"),
        (pa.concat_tables([rollouts, rollouts.slice(0, 1)]), rewards, "occurs twice"),
        (rollouts, changed(rewards, 3, total=float("nan")), "the reward of trajectory 'q0#3' is nan"),
        (rollouts, make_rewards(rollouts, uncounted=tuple(rewards["trajectory_id"].to_pylist())), "none of the 16"),
        (changed(rollouts, 2, token_ids=[1, 2]), rewards, "'q0#2': 2 token_ids but"),
        (changed(rollouts, 2, policy_logprobs=[-1.0]), rewards, "'q0#2': .* policy tokens but 1 policy_logprobs"),
        (
            changed(rollouts, 2, token_ids=[1], token_source=[grammar.POLICY], policy_logprobs=[-1.0]),
            rewards,
            "begins with a policy token",
        ),
        (
            changed(rollouts, 2, token_ids=[1, 2], token_source=[0, grammar.POLICY], policy_logprobs=[float("-inf")]),
            rewards,
            "'q0#2': a policy_logprob is not finite",
        ),
    ]
    for wrong_rollouts, wrong_rewards, message in cases:
        with pytest.raises(PipelineError, match=message):
            update_policy(trainer, wrong_rollouts, wrong_rewards, update_params())
    assert not trainer.batches


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    raw = yaml.safe_load(PARAMS.read_text())
    raw["threads"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    rollouts = make_rollouts()
    artefacts.write_table(tmp_path / "rollouts.parquet", rollouts)
    artefacts.write_table(tmp_path / "rewards.parquet", make_rewards(rollouts))
    make_policy(tmp_path / "policy")
    return {name: tmp_path / name for name in ("policy", "rollouts.parquet", "rewards.parquet", "params.yaml")}


def arguments(files: dict[str, Path], out: Path, *more: str) -> list[str]:
    given = [
        "--policy",
        files["policy"],
        "--rollouts",
        files["rollouts.parquet"],
        "--rewards",
        files["rewards.parquet"],
    ]
    given += ["--params", files["params.yaml"], "--out", out / "policy", "--advantages", out / "advantages.parquet"]
    return [str(part) for part in given] + ["--stage", "stage1", *more]


def test_command_writes_policy_state_advantages_and_metrics(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(arguments(files, one, "--metrics", str(one / "metrics.json"))) == 0
    assert main(arguments(files, two, "--metrics", str(two / "metrics.json"))) == 0
    for name in (
        "policy/model.safetensors",
        "advantages.parquet",
        "metrics.json",
        "trainer_state/optimizer.safetensors",
    ):
        assert artefacts.sha256_file(one / name) == artefacts.sha256_file(two / name), name
    manifest = artefacts.read_json(one / "policy" / "manifest.json")
    assert manifest["step"] == 1
    assert manifest["parent"] == artefacts.sha256_file(files["policy"] / "model.safetensors") != manifest["sha256"]
    assert artefacts.read_table(one / "advantages.parquet", schemas.ADVANTAGES).num_rows == 16
    assert artefacts.read_metadata(one / "advantages.parquet")["learning_rate"] == 5e-4
    assert "loss=" in capsys.readouterr().out

    onward = files | {"policy": one / "policy"}
    assert main(arguments(onward, tmp_path / "three", "--state", str(one / "trainer_state"))) == 0
    assert artefacts.read_json(tmp_path / "three" / "trainer_state" / "trainer.json")["iteration"] == 2


def test_command_stops_where_engine_and_trainer_differ_about_the_policys_own_rollouts(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The made-up log-probabilities of these rollouts belong to no policy."""
    rollouts = artefacts.read_table(files["rollouts.parquet"])
    about = {"policy": artefacts.sha256_tree(files["policy"]), "greedy": False}
    artefacts.write_table(files["rollouts.parquet"], rollouts, about)
    assert main(arguments(files, tmp_path / "out")) == 2
    assert "engine and trainer differ by" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for other in ({}, about | {"policy": "another"}, about | {"greedy": True}):
        artefacts.write_table(files["rollouts.parquet"], rollouts, other)
        assert main(arguments(files, tmp_path / "out")) == 0
        assert "warning: the log-probabilities of these rollouts are" in capsys.readouterr().out


def test_command_refuses_in_one_line_and_leaves_everything_as_it_was(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files["policy"] / "tokenizer.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments(files, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "the model folder has no tokenizer" in error
    assert sorted(tmp_path.rglob("*")) == before
