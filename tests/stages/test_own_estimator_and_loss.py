"""A policy trained by the real trainer with an estimator and a loss from a user's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_update import make_batch, make_policy, make_rewards, make_rollouts, update_params
from safetensors.torch import load_file

from r1_searcher.errors import PipelineError
from r1_searcher.update import update_policy
from r1_searcher.update.trainers import DeepSpeedTrainer

ROOT = Path(__file__).resolve().parents[2]

# Return the built-in example without its command-line part.
EXAMPLE = (ROOT / "examples/own_estimator.py").read_text(encoding="utf-8").split("\n\n\nif __name__")[0]
OWN = f"""{EXAMPLE}

@policy_loss("mean")
def mean(logprobs, old_logprobs, advantages, settings):
    return reinforce(logprobs, old_logprobs, advantages, settings).mean()

@policy_loss("raises")
def raises(logprobs, old_logprobs, advantages, settings):
    return logprobs @ settings
"""
LINE = OWN.splitlines().index("    return logprobs @ settings") + 1


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("own") / "policy")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("extension") / "own.py"
    file.write_text(OWN)
    return str(file)


def trained(policy: Path, **settings: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Return the weights after an update, and its metrics; the trainer's own weights sampled."""
    update = update_params(minibatches=1, **settings)
    trainer = DeepSpeedTrainer(policy, update, learning_rate=1e-2)
    rollouts = make_rollouts()
    batch = make_batch(rollouts)
    column = rollouts.schema.get_field_index("policy_logprobs")
    own = trainer.logprobs(batch.token_ids, batch.policy_mask)
    rollouts = rollouts.set_column(column, "policy_logprobs", [own])
    table, metrics = update_policy(trainer, rollouts, make_rewards(rollouts), update)
    assert table.num_rows == rollouts.num_rows
    weights = {name: tensor.clone() for name, tensor in trainer.export_weights().items()}
    trainer.close()
    return weights, metrics


def test_the_users_estimator_and_loss_train_a_policy(policy: Path, own: str) -> None:
    """On-policy and before the first step the gradient of PPO's loss is REINFORCE's."""
    chosen = {"extensions": (own,), "estimator": "centred", "centred": {"limit": 0.5}}
    weights, metrics = trained(policy, loss="reinforce", **chosen)
    _, others = trained(policy, loss="ppo", **chosen)
    _, grpo = trained(policy, estimator="grpo")
    assert metrics["loss"] != others["loss"]  # -A log pi, and not -A
    assert metrics["gradient_norm"] == pytest.approx(others["gradient_norm"], rel=1e-4)
    assert metrics["gradient_norm"] != pytest.approx(grpo["gradient_norm"], rel=1e-2)
    start = load_file(policy / "model.safetensors")
    assert any(not torch.equal(weights[name], start[name]) for name in start)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mean", r"update\.loss mean: the policy loss returned shape \(\), not a tensor with a gradient and a number"),
        ("raises", rf"own\.py, line {LINE}: the policy loss 'raises' raised TypeError"),
    ],
)
def test_a_wrong_loss_is_one_line(policy: Path, own: str, name: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said) as raised:
        trained(policy, loss=name, extensions=(own,))
    assert "\n" not in str(raised.value)
