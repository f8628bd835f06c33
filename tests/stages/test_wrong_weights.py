"""Weights that do not match config.json: one line, whoever opens them, and never a randomly initialised layer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_update import make_policy, update_params
from safetensors.torch import load_file, save_file

from r1_searcher import model_folders
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.update import model as update_model
from r1_searcher.update.trainers import DeepSpeedTrainer

LAYER = 12  # tensors of one of Qwen2's layers
LORA = {"rank": 2, "alpha": 4, "targets": "all-linear"}


def trainer_of(policy: Path, **settings: Any) -> DeepSpeedTrainer:
    return DeepSpeedTrainer(policy, update_params(**settings), learning_rate=1e-2)


OPENERS: dict[str, Callable[[Path], object]] = {
    "zero0": trainer_of,
    "zero2": lambda policy: trainer_of(policy, zero_stage=2),
    "zero3": lambda policy: trainer_of(policy, zero_stage=3),
    "frozen": lambda policy: update_model.load_model(policy, update_params(), trained=False),
    "engine": lambda policy: model_folders.load_model(policy, dtype="float32"),
}
each_opener = pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("right") / "policy")


def changed(
    policy: Path, folder: Path, config: dict[str, Any], add: dict[str, torch.Tensor] | None = None, drop: str = ""
) -> Path:
    """Copy a policy with another config.json, or with tensors added, or dropped."""
    shutil.copytree(policy, folder)
    artefacts.write_json(folder / "config.json", artefacts.read_json(folder / "config.json") | config)
    if add or drop:
        tensors = load_file(folder / "model.safetensors") | (add or {})
        kept = {name: tensor.contiguous() for name, tensor in tensors.items() if name != drop}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


NORM = "model.layers.1.input_layernorm.weight"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a layer more": (
        {"config": {"num_hidden_layers": 3, "layer_types": None}},
        f"model.layers.2.input_layernorm.weight is missing, and {LAYER - 1} more do not fit",
    ),
    "a layer fewer": (
        {"config": {"num_hidden_layers": 1, "layer_types": None}},
        f"{NORM} has no place in the model, and {LAYER - 1} more do not fit",
    ),
    "another width": (
        {"config": {"intermediate_size": 48}},
        "model.layers.0.mlp.down_proj.weight is (16, 24), not (16, 48), and 5 more do not fit",
    ),
    "another vocabulary": ({"config": {"vocab_size": 98}}, "model.embed_tokens.weight is (97, 16), not (98, 16)"),
    "no head": ({"config": {"tie_word_embeddings": False}}, "lm_head.weight is missing"),
    "one lacks": ({"config": {}, "drop": NORM}, f"{NORM} is missing"),
    "one too many": ({"config": {}, "add": {"value_head": torch.zeros(3)}}, "value_head has no place in the model"),
}


@each_opener
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_weights_that_do_not_fit_are_one_line(
    policy: Path,
    tmp_path: Path,
    opener: Callable[[Path], object],
    wrong: tuple[dict[str, Any], str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    change, message = wrong
    folder = changed(policy, tmp_path / "wrong", **change)
    with pytest.raises(PipelineError) as caught:
        opener(folder)
    assert str(caught.value) == f"{folder}: {message} (do config.json and the weights belong together?)"
    told = "".join(capfd.readouterr())
    assert "LOAD REPORT" not in told and "MISMATCH" not in told


@each_opener
def test_what_files_may_have_beside_the_weights(
    policy: Path, tmp_path: Path, opener: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tied head stored separately, old rotary frequencies, and transformers' message about the model's kind."""
    from transformers import Qwen2ForCausalLM

    monkeypatch.setattr(Qwen2ForCausalLM, "_keys_to_ignore_on_load_unexpected", [r"^mtp\."])
    embedding = load_file(policy / "model.safetensors")["model.embed_tokens.weight"]
    extras = {
        "lm_head.weight": embedding.clone(),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
        "mtp.layers.0.weight": torch.zeros(4),
    }
    opener(changed(policy, tmp_path / "more", {}, extras))


@each_opener
def test_a_head_that_is_not_the_embedding_it_is_tied_to(
    policy: Path, tmp_path: Path, opener: Callable[[Path], object]
) -> None:
    """transformers would use the head as stored, ZeRO 3 and vLLM the embedding."""
    other = torch.zeros_like(load_file(policy / "model.safetensors")["model.embed_tokens.weight"])
    folder = changed(policy, tmp_path / "two", {}, {"lm_head.weight": other})
    with pytest.raises(
        PipelineError, match=r"lm_head\.weight is not model\.embed_tokens\.weight, to which config\.json"
    ):
        opener(folder)


@pytest.mark.parametrize("settings", [{}, {"zero_stage": 3}, {"lora": LORA}], ids=["plain", "zero3", "lora"])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"num_hidden_layers": 3},
            f"model.layers.2.input_layernorm.weight has no place in the model, and {LAYER - 1} more",
        ),
        ({"num_hidden_layers": 1}, f"model.layers.1.input_layernorm.weight is missing, and {LAYER - 1} more"),
        ({"intermediate_size": 48}, "model.layers.0.mlp.down_proj.weight is (16, 48), not (16, 24), and 5 more"),
    ],
    ids=["deeper", "shallower", "wider"],
)
def test_a_checkpoint_of_another_architecture_is_one_line(
    policy: Path, tmp_path: Path, settings: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    other = trainer_of(make_policy(tmp_path / "other", **config), **settings)
    other.save(tmp_path / "saved/policy", step=1, parent="p")
    other.close()
    trainer = trainer_of(policy, **settings)
    before = {name: tensor.clone() for name, tensor in trainer.export_weights().items()}
    with pytest.raises(PipelineError) as caught:
        trainer.load(tmp_path / "saved/policy")
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'saved/policy'}: {message}") and "\n" not in told
    assert "the checkpoint is of another model" in told
    after = trainer.export_weights()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
