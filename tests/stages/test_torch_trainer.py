"""The trainer on torch alone makes the same update as the one on DeepSpeed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_update import make_batch, make_policy, make_rollouts, update_params

from r1_searcher.errors import PipelineError
from r1_searcher.types.protocols import Trainer, TrainingBatch
from r1_searcher.update.trainer import PolicyTrainer
from r1_searcher.update.trainers import DeepSpeedTrainer, TorchTrainer

LORA = {"rank": 2, "alpha": 4, "targets": "all-linear"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("torch") / "policy")


@pytest.fixture(scope="module")
def batch() -> TrainingBatch:
    return make_batch(make_rollouts())


def trainer_of(kind: type[PolicyTrainer], policy: Path, **settings: Any) -> PolicyTrainer:
    return kind(policy, update_params(**settings), learning_rate=1e-2, warmup_iterations=4)


def weights_of(trainer: PolicyTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.export_weights().items()}


@pytest.mark.parametrize(
    "settings",
    [{}, {"importance_cap": 2.0, "weight_decay": 0.1}, {"kl_coefficient": 0.01}, {"lora": LORA}, {"layout": "packed"}],
    ids=["plain", "corrected", "kl", "lora", "packed"],
)
def test_in_float32_the_update_is_the_same_bit_for_bit(
    policy: Path, batch: TrainingBatch, settings: dict[str, Any]
) -> None:
    theirs, ours = (trainer_of(kind, policy, **settings) for kind in (DeepSpeedTrainer, TorchTrainer))
    assert isinstance(ours, Trainer)
    for _ in range(3):
        assert ours.update(batch) == theirs.update(batch)
    expected = weights_of(theirs)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights_of(ours).items())
    tokens = (batch.token_ids, batch.policy_mask)
    assert ours.logprobs(*tokens) == theirs.logprobs(*tokens)


def test_in_bfloat16_the_masters_are_the_same_within_rounding(policy: Path, batch: TrainingBatch) -> None:
    theirs, ours = (trainer_of(kind, policy, dtype="bfloat16") for kind in (DeepSpeedTrainer, TorchTrainer))
    means = ("loss", "gradient_norm", "entropy", "learning_rate", "num_policy_tokens")
    for _ in range(3):
        found, other = ours.update(batch), theirs.update(batch)
        assert {name: found[name] for name in means} == pytest.approx({name: other[name] for name in means}, rel=2e-2)
    expected = weights_of(theirs)
    for name, tensor in weights_of(ours).items():
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor, expected[name], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("settings", [{}, {"dtype": "bfloat16"}, {"lora": LORA}], ids=["float32", "bfloat16", "lora"])
@pytest.mark.parametrize("second", [TorchTrainer, DeepSpeedTrainer])
def test_a_saved_run_goes_on_under_either_trainer(
    policy: Path, batch: TrainingBatch, tmp_path: Path, settings: dict[str, Any], second: type[PolicyTrainer]
) -> None:
    first = trainer_of(TorchTrainer, policy, **settings)
    first.update(batch)
    first.save(tmp_path / "policy", step=1, parent="p")
    again = trainer_of(second, policy, **settings)
    again.load(tmp_path / "policy")
    assert (again.iteration, again.optimizer_steps) == (1, 2)
    metrics, expected = again.update(batch), first.update(batch)
    if second is TorchTrainer or not settings.get("dtype"):
        assert metrics == expected
        assert all(torch.equal(tensor, weights_of(first)[name]) for name, tensor in weights_of(again).items())
    else:
        assert metrics == pytest.approx(expected, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_broken_numbers_stop_before_the_weights(policy: Path, batch: TrainingBatch, dtype: str) -> None:
    trainer = trainer_of(TorchTrainer, policy, dtype=dtype)
    before = weights_of(trainer)
    next(trainer.engine.module.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(PipelineError, match="is not finite; the step was not taken"):
        trainer.update(batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(trainer).items())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"zero_stage": 2}, r"^update\.zero_stage: is 2, but update\.trainer: torch trains in one process"),
        ({"zero_stage": 1, "offload": "optimizer"}, r"^update\.zero_stage: is 1, "),
    ],
)
def test_what_needs_deepspeed_is_refused(policy: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        trainer_of(TorchTrainer, policy, **settings)


def test_ranks_are_refused(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(PipelineError, match=r"^workers\.ranks: is 2, "):
        trainer_of(TorchTrainer, policy)


WITHOUT = """
import sys
from pathlib import Path
for name in ("deepspeed",):
    sys.modules[name] = None
sys.path[:0] = [{tests!r}]
from fixtures_update import make_batch, make_rollouts, update_params
from r1_searcher.points import TRAINERS
arguments = dict(learning_rate=1e-2, warmup_iterations=0, temperature=1.0, seed=0, threads=1)
arguments |= dict(reference=None, reference_apart=False)
trainer = TRAINERS.find("torch", []).value(Path({policy!r}), update_params(trainer="torch"), **arguments)
print(trainer.update(make_batch(make_rollouts()))["num_optimizer_steps"])
"""


def test_it_trains_where_deepspeed_cannot_be_imported(policy: Path) -> None:
    code = WITHOUT.format(tests=str(Path(__file__).resolve().parents[1]), policy=str(policy))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "2.0", done.stderr
