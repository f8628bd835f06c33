"""Low-rank adapters: they alone learn, are exported merged, and resume bitwise."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_update import make_batch, make_policy, make_rollouts, update_params

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.types.protocols import TrainingBatch
from r1_searcher.update import lora, state
from r1_searcher.update.shards import Tensors
from r1_searcher.update.trainers import DeepSpeedTrainer

ADAPTERS = {"rank": 3, "alpha": 6, "targets": "all-linear"}
STAGES: list[dict[str, Any]] = [{}, {"zero_stage": 2}, {"zero_stage": 3}, {"dtype": "bfloat16"}]
NAMES = ["plain", "zero2", "zero3", "bfloat16"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("update") / "policy")


@pytest.fixture(scope="module")
def batch() -> TrainingBatch:
    return make_batch(make_rollouts())


def trainer_of(policy: Path, *, learning_rate: float = 1e-2, **settings: Any) -> DeepSpeedTrainer:
    own = {name: settings.pop(name) for name in ("seed", "reference") if name in settings}
    params = update_params(**{"lora": ADAPTERS, "importance_cap": 2.0} | settings)
    return DeepSpeedTrainer(policy, params, learning_rate=learning_rate, **own)


def weights_of(trainer: DeepSpeedTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.export_weights().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("settings", STAGES, ids=NAMES)
def test_only_adapters_learn(policy: Path, batch: TrainingBatch, settings: dict[str, Any]) -> None:
    trainer = trainer_of(policy, **settings)
    start = Tensors(policy)
    before = weights_of(trainer)
    assert all(torch.equal(before[name], start[name].to(before[name].dtype)) for name in start)  # B is 0
    trainer.update(batch)
    for entry in state.base_entries(trainer.engine):
        kept = entry.read().cpu()
        assert torch.equal(kept, start[entry.name].to(kept.dtype)) and kept.nbytes == entry.size, entry.name
    moved = {name for name, tensor in weights_of(trainer).items() if not torch.equal(tensor, before[name])}
    assert moved == {f"{name}" for name in lora.adapted(trainer.engine.module.model)}
    assert len(moved) == 2 * 7  # two layers of q, k, v, o, gate, up, down
    moments = {entry.name for entry in state.moment_entries(trainer.engine)}
    assert moments and all(".lora_" in name for name in moments)


@pytest.mark.parametrize("settings", STAGES[:3], ids=NAMES[:3])
def test_the_policy_folder_is_the_model_that_was_trained(
    policy: Path, batch: TrainingBatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """By transformers, and as in the pipeline: by an engine that opens the folder, against the trainer's figures; and
    by one that takes the weights from memory."""
    from transformers import AutoModelForCausalLM

    from r1_searcher.model_folders import load_tokenizer
    from r1_searcher.rollout.engine import TransformersEngine
    from r1_searcher.rollout.sync import Gap, check_sync

    trainer = trainer_of(policy, **settings)
    trainer.update(batch)
    trainer.save(tmp_path / "policy", step=1, parent="p")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    assert same(dict(opened.state_dict()), weights_of(trainer))
    assert set(Tensors(tmp_path / "policy")) == set(Tensors(policy))
    expected = trainer.logprobs(batch.token_ids, batch.policy_mask)
    from_memory = TransformersEngine(AutoModelForCausalLM.from_pretrained(policy), load_tokenizer(policy))
    with pytest.raises(PipelineError, match="does not have the trainer's weights"):
        check_sync(from_memory, batch.token_ids, batch.policy_mask, expected, temperature=1.0, allowed=Gap(1e-5, 1e-4))
    from_memory.load_state(trainer.export_weights())
    for engine in (TransformersEngine(opened, load_tokenizer(tmp_path / "policy")), from_memory):
        check_sync(engine, batch.token_ids, batch.policy_mask, expected, temperature=1.0, allowed=Gap(1e-5, 1e-4))


def test_one_step_is_that_of_the_formula(policy: Path, batch: TrainingBatch) -> None:
    """Return the gradients of A and B by autograd through W + s · B A, in plain torch."""
    from transformers import AutoModelForCausalLM

    trainer = trainer_of(policy, minibatches=1, importance_cap=0.0, max_gradient_norm=1e9)
    trainer.update(batch)  # B is 0 before it, and A has no gradient
    layers = lora.adapted(trainer.engine.module.model)
    leaves = {
        name: [layer.a.detach().clone().requires_grad_(), layer.b.detach().clone().requires_grad_()]
        for name, layer in layers.items()
    }
    model = AutoModelForCausalLM.from_pretrained(policy)
    merged = {name: Tensors(policy)[name] + 6 / 3 * (b @ a) for name, (a, b) in leaves.items()}
    losses, total = [], sum(len(row) for row in batch.advantages)
    for ids, mask, advantages, old in zip(
        batch.token_ids, batch.policy_mask, batch.advantages, batch.old_logprobs, strict=True
    ):
        where = [t for t in range(len(ids)) if mask[t]]
        logits = torch.func.functional_call(model, merged, (torch.tensor([ids]),)).logits[0].log_softmax(-1)
        ratio = (logits[[t - 1 for t in where], [ids[t] for t in where]] - torch.tensor(old)).exp()
        weight = torch.tensor(advantages)
        losses.append(-torch.minimum(ratio * weight, ratio.clamp(0.8, 1.2) * weight).sum() / total)
    loss = torch.stack(losses).sum()
    loss.backward()
    gradients = [leaf.grad for pair in leaves.values() for leaf in pair if leaf.grad is not None]
    assert len(gradients) == 2 * len(leaves)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    metrics = trainer.update(batch)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["gradient_norm"] == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("settings", STAGES, ids=NAMES)
def test_a_saved_run_goes_on_bitwise(
    policy: Path, batch: TrainingBatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """From the segment's start, and, like the next segment, from the merged policy alone."""
    first = trainer_of(policy, **settings)
    first.save(tmp_path / "zero" / "policy", step=0, parent="p")
    first.update(batch)
    first.update(batch)
    first.save(tmp_path / "policy", step=2, parent="p")
    expected = (first.update(batch), weights_of(first))
    for start in (policy, tmp_path / "policy"):
        second = trainer_of(start, **settings)
        second.load(tmp_path / "policy")
        assert second.update(batch) == expected[0]
        assert same(weights_of(second), expected[1])
        second.save(tmp_path / "again" / "policy", step=3, parent="p")
        shutil.rmtree(tmp_path / "again")
    second = trainer_of(tmp_path / "policy", **settings)
    second.load(tmp_path / "zero" / "policy")  # before the first update
    second.update(batch)
    second.update(batch)
    assert second.update(batch) == expected[0]


def test_the_reference_is_the_base_without_a_second_copy(policy: Path, batch: TrainingBatch, tmp_path: Path) -> None:
    tokens = (batch.token_ids, batch.policy_mask)
    trainer = trainer_of(policy, kl_coefficient=0.1)
    before = trainer.logprobs(*tokens)
    trainer.update(batch)
    assert trainer.reference_logprobs(*tokens) == before
    after = trainer.logprobs(*tokens)
    assert after != before and trainer._reference is None
    trainer.save(tmp_path / "policy", step=1, parent="p")
    # The next segment's anchor is its own first policy, which the base is not.
    onward = trainer_of(tmp_path / "policy", kl_coefficient=0.1)
    onward.load(tmp_path / "policy")
    onward.update(batch)
    found = onward.reference_logprobs(*tokens)
    assert onward._reference is not None
    for row, wanted in zip(found, after, strict=True):
        assert row == pytest.approx(wanted, abs=1e-4)


def test_other_adapters_are_refused(policy: Path, batch: TrainingBatch, tmp_path: Path) -> None:
    trainer_of(policy).save(tmp_path / "low" / "policy", step=0, parent="p")
    trainer_of(policy, lora=ADAPTERS | {"rank": 0}).save(tmp_path / "all" / "policy", step=0, parent="p")
    low, whole = (tmp_path / name / "policy" for name in ("low", "all"))
    for settings, saved, message in [
        (ADAPTERS | {"rank": 4}, low, "has rank 3, alpha 6, all-linear, and update.lora has rank 4, alpha 6"),
        (ADAPTERS | {"alpha": 5}, low, "update.lora has rank 3, alpha 5"),
        (ADAPTERS | {"targets": ["q_proj"]}, low, r"all-linear, and .* \['q_proj'\]"),
        (ADAPTERS | {"rank": 0}, low, "and update.lora trains all weights"),
        (ADAPTERS, whole, "trains all weights, and update.lora has rank 3"),
    ]:
        with pytest.raises(PipelineError, match=message):
            trainer_of(saved, lora=settings).load(saved)


def test_targets_are_linear_layers_of_the_model(policy: Path) -> None:
    trainer = trainer_of(policy, lora=ADAPTERS | {"targets": ["q_proj", "v_proj"]})
    assert len(lora.adapted(trainer.engine.module.model)) == 4
    for target in ("lm_head", "embed_tokens", "qproj"):
        with pytest.raises(
            PipelineError, match=f"no linear layers called '{target}'.*all-linear, or some of down_proj"
        ):
            trainer_of(policy, lora=ADAPTERS | {"targets": ["q_proj", target]})


def test_peft_is_asked_for(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(PipelineError, match="peft, which is not installed"):
        trainer_of(policy)


def test_the_state_says_what_the_adapters_are(policy: Path, tmp_path: Path) -> None:
    trainer_of(policy).save(tmp_path / "policy", step=0, parent="p")
    numbers = artefacts.read_json(tmp_path / "trainer_state" / "trainer.json")
    assert numbers["lora"] == ADAPTERS
    assert not list(tmp_path.rglob("*.pt")), "nothing is pickled"
