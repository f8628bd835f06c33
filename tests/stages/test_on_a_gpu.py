"""Engine and trainer on a pretended GPU: the numbers of the CPU, and nothing on the wrong device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_jobs import Run, jobs, run
from fixtures_update import VOCABULARY, make_batch, make_policy, make_rollouts, update_params
from pretended_gpu import GPU, OnGpu, pretended_gpu

from r1_searcher.model_folders import load_model, load_tokenizer
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.types.protocols import Sampling, TrainingBatch
from r1_searcher.update.trainers import TorchTrainer

LORA = {"rank": 2, "alpha": 4, "targets": "all-linear"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("gpu") / "policy")


@pytest.fixture(scope="module")
def batch() -> TrainingBatch:
    return make_batch(make_rollouts())


@pytest.fixture
def gpu() -> Iterator[None]:
    with pretended_gpu():
        yield


def trainer_of(policy: Path, **settings: Any) -> TorchTrainer:
    return TorchTrainer(policy, update_params(**settings), learning_rate=1e-2)


@pytest.mark.parametrize(
    "settings",
    [
        {"importance_cap": 2.0, "kl_coefficient": 0.01},
        {"dtype": "bfloat16", "layout": "packed", "gradient_checkpointing": True},
        {"lora": LORA, "dtype": "bfloat16", "kl_coefficient": 0.01},
    ],
    ids=["float32", "bfloat16", "lora"],
)
def test_a_trainer_updates_and_resumes_on_a_gpu_as_on_a_cpu(
    policy: Path, batch: TrainingBatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    def updated(folder: Path) -> tuple[list[dict[str, float]], list[list[float]]]:
        first = trainer_of(policy, **settings)
        found = [first.update(batch)]
        first.save(folder / "policy", step=1, parent="p")
        first.close()
        again = trainer_of(policy, **settings)
        again.load(folder / "policy")
        found.append(again.update(batch))
        tokens = (batch.token_ids, batch.policy_mask)
        return found, again.logprobs(*tokens) + (
            again.reference_logprobs(*tokens) if again.settings.kl_coefficient else []
        )

    expected = updated(tmp_path / "cpu")
    with pretended_gpu():
        found = updated(tmp_path / "gpu")
    assert found == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_engine_samples_on_a_gpu_as_on_a_cpu(policy: Path, dtype: str) -> None:
    """Ragged prompts, blocks that are prefilled alone, rows that leave the batch, scores, and weights from memory."""

    def sampled() -> tuple[list[Run], list[list[float]], str]:
        model = load_model(policy, dtype=dtype).to("cuda" if torch.cuda.is_available() else "cpu")
        engine = TransformersEngine(model, load_tokenizer(policy))
        engine.check_head("here")
        engine.load_state({name: tensor.detach() * 0.9 for name, tensor in model.named_parameters()})
        made = run(engine, jobs(6, VOCABULARY), Sampling(1.0, 0.95, max_turn_tokens=6, max_total_tokens=100), ["w7"])
        return made, engine.score([one.ids for one in made], temperature=1.0), model.device.type

    made, scores, _ = sampled()
    with pretended_gpu():
        again, same_scores, device = sampled()
    assert device == "cuda"
    # Decoding on a CPU in bfloat16 takes products of its own, and any other device the kernel of torch.
    if dtype == "float32":
        assert (again, same_scores) == (made, scores)
    assert [len(one.ids) > 0 for one in again] == [True] * 6


def test_what_cuda_refuses_is_refused(gpu: None) -> None:
    """Else the tests above would show nothing."""
    there, here = torch.ones(3, device="cuda", requires_grad=True), torch.ones(3)
    assert there.device == GPU and isinstance(there * torch.tensor(2.0), OnGpu)
    assert torch.equal(there[torch.tensor([2, 0])].cpu(), here[:2])  # indices may be elsewhere
    refused = [
        lambda: there + here,
        lambda: there @ here,
        lambda: here.index_select(0, torch.tensor([0], device="cuda")),
        lambda: torch.where(here > 0, there, there),
        lambda: there.detach().index_add_(0, torch.tensor([0]), there[:1].detach()),
    ]
    for wrong in refused:
        with pytest.raises(RuntimeError, match="on the same device"):
            wrong()  # type: ignore[no-untyped-call]
    with pytest.raises(AssertionError, match="is indexed by one of the GPU"):
        here[torch.tensor([0], device="cuda")]
    with pytest.raises(TypeError, match="to numpy"):
        there.detach().numpy()
    there.sum().backward()
    assert isinstance(there.grad, OnGpu) and there.grad.tolist() == [1.0, 1.0, 1.0]
    assert not isinstance(there.to("cpu"), OnGpu) and isinstance(here.to(there), OnGpu)
