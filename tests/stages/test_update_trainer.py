"""The DeepSpeed trainer: equal to plain torch, deterministic, resumable, and safe with NaN and infinity."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures_update import make_batch, make_policy, make_rollouts, update_params

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.files.weights import weight_files, weights_sha256
from r1_searcher.types.protocols import Trainer, TrainingBatch
from r1_searcher.update import shards
from r1_searcher.update.trainers import DeepSpeedTrainer


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("update") / "policy")


@pytest.fixture(scope="module")
def batch() -> TrainingBatch:
    return make_batch(make_rollouts())


def trainer_of(policy: Path, learning_rate: float = 1e-2, **settings: Any) -> DeepSpeedTrainer:
    own = {name: settings.pop(name) for name in ("seed", "warmup_iterations") if name in settings}
    return DeepSpeedTrainer(policy, update_params(**settings), learning_rate=learning_rate, **own)


def weights_of(trainer: DeepSpeedTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.export_weights().items()}


def on_policy(trainer: DeepSpeedTrainer, batch: TrainingBatch) -> TrainingBatch:
    """Return the batch as if the trainer's own weights had sampled it."""
    old = trainer.logprobs(batch.token_ids, batch.policy_mask)
    own = [list(row) for row in batch.advantages]  # a test may change them
    return TrainingBatch(batch.token_ids, batch.policy_mask, own, old, batch.trajectory_ids)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("loss_mean", ["token", "trajectory"])
def test_one_step_is_adamw_on_the_formula(policy: Path, batch: TrainingBatch, loss_mean: str) -> None:
    """Against transformers' own logits, one trajectory at a time, autograd and a plain AdamW."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(policy)
    total = sum(len(row) for row in batch.advantages)
    losses = []
    for ids, mask, advantages, old in zip(
        batch.token_ids, batch.policy_mask, batch.advantages, batch.old_logprobs, strict=True
    ):
        where = [t for t in range(len(ids)) if mask[t]]
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        new = logits[[t - 1 for t in where], [ids[t] for t in where]]
        ratio, weight = (new - torch.tensor(old)).exp(), torch.tensor(advantages)
        token = -torch.minimum(ratio * weight, ratio.clamp(0.8, 1.2) * weight)
        losses.append(token.sum() / total if loss_mean == "token" else token.mean() / len(batch.token_ids))
    loss = torch.stack(losses).sum()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0).step()

    trainer = trainer_of(policy, minibatches=1, loss_mean=loss_mean)
    metrics = trainer.update(batch)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)
    for name, tensor in trainer.export_weights().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_layout_and_size_of_passes_change_nothing(policy: Path, batch: TrainingBatch, cap: float) -> None:
    results = []
    for layout, max_tokens in (("padded", 1000), ("padded", 30), ("packed", 40)):
        trainer = trainer_of(policy, layout=layout, max_tokens_a_pass=max_tokens, importance_cap=cap)
        results.append((trainer.update(batch), weights_of(trainer)))
    for metrics, weights in results[1:]:
        assert metrics == pytest.approx(results[0][0], rel=2e-3, abs=1e-5)
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, results[0][1][name], atol=5e-4, rtol=1e-3)


def test_correction_with_agreeing_engine_is_no_correction(policy: Path, batch: TrainingBatch) -> None:
    plain, corrected = trainer_of(policy), trainer_of(policy, importance_cap=2.0)
    honest = on_policy(plain, batch)
    without, with_it = plain.update(honest), corrected.update(honest)
    assert with_it["importance_truncated"] == 0
    assert with_it["logprob_gap_max"] < 1e-5
    for name in without:
        assert with_it[name] == pytest.approx(without[name], rel=1e-3, abs=1e-5), name


def test_correction_weighs_down_what_the_engine_over_sampled(policy: Path, batch: TrainingBatch) -> None:
    """Engine log-probabilities too high by log 2: every weight is 1/2, so are loss and gradient; too low: the cap."""
    settings: dict[str, Any] = {"minibatches": 1, "max_gradient_norm": 1e9}
    base = trainer_of(policy, **settings)
    honest = on_policy(base, batch)
    norm = base.update(honest)["gradient_norm"]
    for shift, factor in ((np.log(2.0), 0.5), (-np.log(4.0), 2.0)):
        shifted = TrainingBatch(
            honest.token_ids,
            honest.policy_mask,
            honest.advantages,
            [[value + shift for value in row] for row in honest.old_logprobs],
        )
        metrics = trainer_of(policy, importance_cap=2.0, **settings).update(shifted)
        assert metrics["gradient_norm"] == pytest.approx(factor * norm, rel=1e-3)
        assert metrics["logprob_gap_mean"] == pytest.approx(abs(shift), rel=1e-3)
        assert metrics["ratio_max"] == pytest.approx(1.0)  # the ratio is against the trainer, which has not moved


@pytest.mark.parametrize("settings", [{}, {"loss_mean": "trajectory", "importance_cap": 2.0}], ids=["token", "mean"])
def test_dropping_what_has_no_advantage_changes_no_gradient(
    policy: Path, batch: TrainingBatch, settings: dict[str, Any]
) -> None:
    """Nor with a whole minibatch, or the whole batch, dropped: AdamW's momentum continues as with gradients of 0."""
    order = np.random.default_rng([0, 1]).permutation(16)  # of the second update
    for flat in ({0, 1, 2, 3, 9}, set(order[:8].tolist()), set(range(16))):
        kept, dropping = trainer_of(policy, **settings), trainer_of(policy, **settings)
        for trainer in (kept, dropping):
            trainer.update(batch)
        rows = [[0.0] * len(row) if b in flat else row for b, row in enumerate(batch.advantages)]
        some = dataclasses.replace(batch, advantages=rows)
        passes: list[int] = []
        dropping.engine.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        found = dropping.update(dataclasses.replace(some, dropped=frozenset(flat)))
        expected = kept.update(some)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4, abs=1e-7)
        for name, tensor in weights_of(dropping).items():
            torch.testing.assert_close(tensor, kept.export_weights()[name], atol=2e-4, rtol=1e-3)
        if len(flat) == 16:
            assert len(passes) == 2 and "entropy" not in found and found["loss"] == 0
        else:
            assert np.isfinite(found["entropy"])
            late = flat == set(order[:8].tolist()) and not settings  # nothing shows the gap before the first step
            assert ("logprob_gap_max" in found) != late


def test_an_update_that_is_one_behind_is_corrected_for_who_sampled(policy: Path, batch: TrainingBatch) -> None:
    """Overlap: the policy before the last update has sampled. The ratio is against the policy at the start of the
    update, and each token weighs min(pi_found / pi_sampled, cap): against autograd over transformers' own logits."""
    from transformers import AutoModelForCausalLM

    cap = 1.2  # low, so that only some tokens are truncated
    trainer = trainer_of(policy, learning_rate=3e-2, minibatches=1, importance_cap=cap, max_gradient_norm=1e9)
    sampled = trainer.logprobs(batch.token_ids, batch.policy_mask)
    trainer.update(batch)
    behind = dataclasses.replace(batch, old_logprobs=sampled)
    model = AutoModelForCausalLM.from_pretrained(policy)
    model.load_state_dict(dict(trainer.export_weights()))
    total, losses, weights = sum(len(row) for row in batch.advantages), [], []
    for ids, mask, advantages, old in zip(
        behind.token_ids, behind.policy_mask, behind.advantages, behind.old_logprobs, strict=True
    ):
        where = [t for t in range(len(ids)) if mask[t]]
        new = model(torch.tensor([ids])).logits[0].log_softmax(-1)[[t - 1 for t in where], [ids[t] for t in where]]
        weight = (new.detach() - torch.tensor(old)).exp().clamp(max=cap)
        weights.append(weight)
        ratio = (new - new.detach()).exp()  # 1, with the gradient of log pi: no token is clipped in the first step
        losses.append(-(weight * ratio * torch.tensor(advantages)).sum() / total)
    loss = torch.stack(losses).sum()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    metrics = trainer.update(behind)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["gradient_norm"] == pytest.approx(norm.item(), rel=1e-3)
    flat = torch.cat(weights)
    assert 0.1 < float((flat == cap).float().mean()) < 0.9 and float(flat.min()) < 0.9
    assert metrics["importance_truncated"] == pytest.approx(float((flat == cap).double().mean()), abs=1e-2)


def test_update_raises_what_was_rewarded(policy: Path, batch: TrainingBatch) -> None:
    trainer = trainer_of(policy, learning_rate=1e-3)
    good = on_policy(trainer, batch)
    good.advantages[:] = [[1.0 if b == 0 else 0.0] * len(row) for b, row in enumerate(good.advantages)]
    trainer.update(good)
    after = trainer.logprobs(good.token_ids, good.policy_mask)
    assert sum(after[0]) > sum(good.old_logprobs[0])


def test_same_seed_is_bitwise_the_same_and_another_is_not(policy: Path, batch: TrainingBatch) -> None:
    runs = []
    for seed in (0, 0, 1):
        trainer = trainer_of(policy, seed=seed)
        metrics = [trainer.update(batch) for _ in range(2)]
        runs.append((metrics, weights_of(trainer)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])
    assert not same(runs[0][1], runs[2][1])


def test_warm_up_is_linear_over_iterations(policy: Path, batch: TrainingBatch) -> None:
    trainer = trainer_of(policy, learning_rate=4e-3, warmup_iterations=4)
    rates = [trainer.update(batch)["learning_rate"] for _ in range(6)]
    assert rates == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 4e-3, 4e-3])


@pytest.mark.parametrize(
    "settings",
    [{}, {"zero_stage": 2}, {"zero_stage": 3}, {"dtype": "bfloat16"}],
    ids=["plain", "zero2", "zero3", "bfloat16"],
)
def test_a_saved_run_goes_on_bitwise(
    policy: Path, batch: TrainingBatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    first = trainer_of(policy, importance_cap=2.0, **settings)
    first.update(batch)
    first.update(batch)
    first.save(tmp_path / "policy", step=2, parent="p")
    expected = (first.update(batch), weights_of(first))

    second = trainer_of(tmp_path / "policy", importance_cap=2.0, **settings)
    second.load(tmp_path / "policy")
    assert (second.iteration, second.optimizer_steps) == (2, 4)
    metrics = second.update(batch)
    assert metrics == expected[0]
    assert same(weights_of(second), expected[1])


def test_zero3_has_the_positions_of_the_whole_model(policy: Path, batch: TrainingBatch) -> None:
    """In bfloat16 too: DeepSpeed would round the rotary frequencies."""
    whole, divided = (trainer_of(policy, dtype="bfloat16", zero_stage=stage) for stage in (2, 3))
    buffers = dict(whole.engine.module.named_buffers())
    assert buffers
    for name, buffer in divided.engine.module.named_buffers():
        assert buffer.dtype == buffers[name].dtype and torch.equal(buffer, buffers[name]), name
    tokens = (batch.token_ids, batch.policy_mask)
    assert divided.logprobs(*tokens) == whole.logprobs(*tokens)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_agree(policy: Path, batch: TrainingBatch, stage: int) -> None:
    plain, partitioned = trainer_of(policy), trainer_of(policy, zero_stage=stage)
    assert partitioned.update(batch) == pytest.approx(plain.update(batch), rel=1e-4, abs=1e-6)
    for name, tensor in weights_of(partitioned).items():
        torch.testing.assert_close(tensor, plain.export_weights()[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"zero_stage": 1, "offload": "optimizer"},
        {"zero_stage": 2, "offload": "optimizer", "dtype": "bfloat16"},
        {"zero_stage": 3, "offload": "optimizer"},
        {"zero_stage": 3, "offload": "all", "dtype": "bfloat16"},
        {"zero_stage": 3, "offload": "all", "lora": {"rank": 2, "alpha": 4, "targets": "all-linear"}},
    ],
    ids=["zero1", "zero2-bfloat16", "zero3", "zero3-all-bfloat16", "zero3-all-lora"],
)
def test_offloading_changes_no_weight(
    policy: Path, batch: TrainingBatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """On a CPU nothing is offloaded, but DeepSpeed takes its other path: torch's AdamW, nothing compiled, and
    resumable."""
    plain, away = trainer_of(policy, **settings | {"offload": "none"}), trainer_of(policy, **settings)
    assert type(away.engine.basic_optimizer) is torch.optim.AdamW
    assert away.engine.zero_offload_optimizer().device == "cpu"
    assert (away.engine.zero_offload_param() is not None) == (settings["offload"] == "all")
    assert away.update(batch) == pytest.approx(plain.update(batch), rel=1e-3, abs=1e-6)
    for name, tensor in weights_of(away).items():
        torch.testing.assert_close(tensor, plain.export_weights()[name], atol=1e-5, rtol=1e-4)
    away.save(tmp_path / "policy", step=1, parent="p")
    expected = away.update(batch)
    again = trainer_of(policy, **settings)
    again.load(tmp_path / "policy")
    assert again.update(batch) == expected


def test_policy_folder_is_one_that_transformers_opens(policy: Path, batch: TrainingBatch, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    trainer = trainer_of(policy)
    assert isinstance(trainer, Trainer)
    trainer.update(batch)
    folder = tmp_path / "policy"
    trainer.save(folder, step=7, parent="abc")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == {"sha256": artefacts.sha256_file(folder / "model.safetensors"), "parent": "abc", "step": 7}
    opened = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert same({name: opened[name] for name in opened}, weights_of(trainer))
    assert PreTrainedTokenizerFast.from_pretrained(folder)("w5 w7")["input_ids"] == [5, 7]
    trainer.save(folder, step=7, parent="abc")  # again, over itself: the same files
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert {entry.name for entry in tmp_path.iterdir()} == {"policy", "trainer_state"}
    assert not list(tmp_path.rglob("*.pt")), "nothing is pickled"


@pytest.mark.parametrize("settings", [{}, {"zero_stage": 3, "dtype": "bfloat16"}], ids=["plain", "zero3"])
def test_large_folders_are_shards_and_go_on_bitwise(
    policy: Path, batch: TrainingBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(shards, "SHARD_BYTES", 4000)
    first = trainer_of(policy, **settings)
    first.update(batch)
    folder = tmp_path / "policy"
    first.save(folder, step=1, parent="p")
    assert len(weight_files(folder)) > 1
    assert len(weight_files(tmp_path / "trainer_state", "optimizer")) > 1
    assert artefacts.read_json(folder / "manifest.json")["sha256"] == weights_sha256(folder)
    opened = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert same({name: opened[name] for name in opened}, weights_of(first))

    second = trainer_of(folder, **settings)
    second.load(folder)
    assert second.update(batch) == first.update(batch)
    assert same(weights_of(second), weights_of(first))


def test_state_of_other_weights_is_refused(policy: Path, batch: TrainingBatch, tmp_path: Path) -> None:
    trainer = trainer_of(policy)
    trainer.save(tmp_path / "a" / "policy", step=0, parent="p")
    trainer.update(batch)
    trainer.save(tmp_path / "b" / "policy", step=1, parent="p")
    with pytest.raises(PipelineError, match="belongs to another policy"):
        trainer.load(tmp_path / "a" / "policy", tmp_path / "b" / "trainer_state")
    with pytest.raises(PipelineError, match="seed 0, not 3"):
        trainer_of(policy, seed=3).load(tmp_path / "a" / "policy")
    with pytest.raises(PipelineError, match="no such file"):
        trainer.load(tmp_path / "a" / "policy", tmp_path / "nowhere")


@pytest.mark.parametrize("settings", [{}, {"zero_stage": 1}, {"zero_stage": 3}], ids=["plain", "zero1", "zero3"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_broken_numbers_stop_before_the_weights(
    policy: Path, batch: TrainingBatch, where: str, settings: dict[str, Any]
) -> None:
    trainer = trainer_of(policy, minibatches=1, **settings)
    before = weights_of(trainer)
    if where == "loss":
        batch = on_policy(trainer, batch)
        batch.advantages[3][0] = float("nan")
        handle = None
    else:  # a finite loss whose gradient is not
        handle = next(trainer.engine.module.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(PipelineError, match="not finite; the step was not taken"):
        trainer.update(batch)
    if handle is not None:
        handle.remove()
    assert same(weights_of(trainer), before)
    assert trainer.iteration == 0


def test_reference_is_frozen_and_only_there_with_kl(policy: Path, batch: TrainingBatch) -> None:
    trainer = trainer_of(policy, kl_coefficient=0.1)
    before = trainer.reference_logprobs(batch.token_ids, batch.policy_mask)
    assert before == trainer.logprobs(batch.token_ids, batch.policy_mask)
    trainer.update(batch)
    assert trainer.reference_logprobs(batch.token_ids, batch.policy_mask) == before
    assert trainer.logprobs(batch.token_ids, batch.policy_mask) != before
    with pytest.raises(PipelineError, match="no reference policy"):
        trainer_of(policy).reference_logprobs(batch.token_ids, batch.policy_mask)


def test_gradient_checkpointing_changes_nothing(policy: Path, batch: TrainingBatch) -> None:
    plain, saving = trainer_of(policy), trainer_of(policy, gradient_checkpointing=True)
    assert saving.update(batch) == pytest.approx(plain.update(batch), rel=1e-5)
    assert any(getattr(module, "gradient_checkpointing", False) for module in saving.engine.module.modules())
