"""Kinds of models: engine, trainer and a plain forward agree on each known-good one, beyond attention windows and with
logit caps; a wrong one gives one line when the model is imported, before anything is sampled."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine_jobs import jobs, run
from tiny_architectures import KINDS, WINDOW, write_kind
from tiny_policy import params_with, rollout_params

from r1_searcher.errors import PipelineError
from r1_searcher.models.agreement import KNOWN_GOOD, check_agreement
from r1_searcher.models.imported import check_usable, import_model
from r1_searcher.rollout import load_engine
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.serving.continuous import ContinuousEngine
from r1_searcher.types.model_config import steady_length
from r1_searcher.types.protocols import TrainingBatch


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kind -> its folder, made once."""
    made: dict[str, Path] = {}
    place = tmp_path_factory.mktemp("kinds")

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_kind(place / kind.replace(" ", ""), kind)
        return made[kind]

    return folder


def checked(folder: Path, **changes: Any) -> list[str]:
    """Return the lines of the check."""
    lines: list[str] = []
    settings = params_with(rollout__prompt="short", rollout__max_total_tokens=300, **changes)
    check_agreement(folder, settings, lines.append, where=str(folder))
    return lines


def test_the_known_good_are_the_tested() -> None:
    assert [kind for kind in KINDS if kind in KNOWN_GOOD.values()] == list(KNOWN_GOOD.values())


@pytest.mark.parametrize("kind", KNOWN_GOOD.values())
def test_a_known_good_kind_agrees(kind: str, folders: Any) -> None:
    line = checked(folders(kind))[-1]
    assert line.endswith(f"{kind} is known good")


@pytest.mark.parametrize("kind", ["Starcoder2", "OPT", "Granite", "Cohere"])
def test_other_kinds_agree_too(kind: str, folders: Any) -> None:
    """Windows, functional dropout and scaled logits."""
    assert checked(folders(kind))[-1].endswith("is not among the kinds we test")


@pytest.mark.parametrize("kind", [*KNOWN_GOOD.values(), "Starcoder2", "OPT", "Granite", "Cohere"])
def test_packed_passes_of_the_server_agree(kind: str, folders: Any) -> None:
    """Beyond windows, with prompts and documents beside rows that decode."""
    engine = load_engine(folders(kind), rollout_params())
    assert isinstance(engine, TransformersEngine)
    expected = run(engine, jobs(8))
    found = run(ContinuousEngine.of(engine), jobs(8))
    assert max(len(one.ids) for one in expected) > 2 * WINDOW
    for one, other in zip(found, expected, strict=True):
        assert (one.ids, one.stops) == (other.ids, other.stops)
        np.testing.assert_allclose(
            [value for _, value in one.logprobs], [value for _, value in other.logprobs], rtol=0, atol=5e-5
        )


def test_an_engine_that_looks_past_a_window_is_refused(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check's purpose: the mask that this engine once made for all layers alike."""
    from r1_searcher.rollout import token_attention

    def all_alike(*args: Any, mask_function: Any = None, **options: Any) -> Any:
        from transformers.masking_utils import causal_mask_function

        return mask(*args, mask_function=causal_mask_function, **options)

    mask = token_attention.mask
    monkeypatch.setattr(token_attention, "mask", all_alike)
    with pytest.raises(PipelineError, match=r"the engine's log-probabilities are .* on average and .* Qwen2, Qwen3"):
        checked(folders("Mistral"))


def test_a_window_of_the_real_size_is_looked_beyond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from r1_searcher.model_folders import load_model
    from r1_searcher.rollout import token_attention

    folder = write_kind(tmp_path / "mistral", "Mistral", sliding_window=4096)
    assert "Mistral is known good" in checked(folder)[-1]
    assert load_model(folder, dtype="float32").config.sliding_window == 4096

    def forgets(*args: Any, mask_function: Any = None, **options: Any) -> Any:
        from transformers.masking_utils import causal_mask_function

        return mask(*args, mask_function=causal_mask_function, **options)

    mask = token_attention.mask
    monkeypatch.setattr(token_attention, "mask", forgets)
    with pytest.raises(PipelineError, match="engine's log-probabilities"):
        checked(folder)


def test_packed_rows_are_refused_where_they_are_wanted_only(folders: Any) -> None:
    lines = checked(folders("StableLM"))
    assert "update.layout: packed is not for this model" in lines[0] and "compared with" in lines[1]
    with pytest.raises(PipelineError, match=r"update\.layout: packed: the model does not tell its layers of blocks"):
        checked(folders("StableLM"), update__layout="packed")


def test_attention_that_is_no_scaled_product_is_one_line(folders: Any) -> None:
    with pytest.raises(PipelineError, match="model_type gpt_oss: this model's attention is more than") as caught:
        load_engine(folders("gpt-oss"), rollout_params())
    assert len(str(caught.value)) < 300


LENGTH_DEPENDENT = {
    "longrope": (
        "Phi-3",
        {
            "original_max_position_embeddings": 96,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "original_max_position_embeddings": 96,
                "short_factor": [1.0] * 8,
                "long_factor": [4.0] * 8,
            },
        },
    ),
    "dynamic": (
        "Llama",
        {
            "max_position_embeddings": 96,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
        },
    ),
}


@pytest.mark.parametrize("rope", LENGTH_DEPENDENT)
def test_positions_that_depend_on_the_length_are_refused_beyond_where_they_do(rope: str, tmp_path: Path) -> None:
    kind, changes = LENGTH_DEPENDENT[rope]
    folder = write_kind(tmp_path / "policy", kind, **changes)
    with pytest.raises(PipelineError, match=r"rollout\.max_total_tokens 97: above 96 tokens .* \(at most 96\)"):
        load_engine(folder, rollout_params(max_total_tokens=97))
    with pytest.raises(PipelineError, match="at most 96"):
        check_usable(str(folder), rollout_params(max_total_tokens=97))
    lines: list[str] = []
    settings = params_with(rollout__prompt="short", rollout__max_total_tokens=96)
    check_usable(str(folder), settings.rollout)
    check_agreement(folder, settings, lines.append, where=str(folder))
    assert "compared with" in lines[-1]


def test_rotary_kinds_that_do_not_depend_on_the_length_have_no_limit() -> None:
    for rope in ("default", "linear", "yarn", "llama3"):
        assert steady_length(SimpleNamespace(rope_parameters={"rope_type": rope}, max_position_embeddings=96)) is None
    nested = {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {"rope_type": "default"}}
    assert steady_length(SimpleNamespace(rope_parameters=nested, max_position_embeddings=96)) == 96


def test_logits_that_nobody_knows_how_to_scale_are_refused(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detected by property, not by name: here a scale that the configuration lacks."""
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def halved(self: Any, *args: Any, **options: Any) -> Any:
        found = forward(self, *args, **options)
        found.logits = found.logits / 2
        return found

    monkeypatch.setattr(LlamaForCausalLM, "forward", halved)
    with pytest.raises(PipelineError, match="logits are more than its output head applied to the last hidden state"):
        load_engine(folders("Llama"), rollout_params())
    with pytest.raises(PipelineError, match="logits are more than its output head"):
        checked(folders("Llama"))


@pytest.fixture(scope="module")
def broken(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a policy with one row of NaN weights."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("nan") / "policy"
    shutil.copytree(folders("Llama"), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_weights_that_are_no_numbers(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"model\.layers\.1\.mlp\.up_proj\.weight contains NaN"):
        import_model(str(broken), tmp_path / "base_model", "float32")
    with pytest.raises(PipelineError, match="the policy's logits are not numbers"):
        load_engine(broken, rollout_params())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["Starcoder2", "OPT", "GPT-NeoX"])
def test_the_trainer_has_no_dropout(kind: str, checkpointing: bool, folders: Any) -> None:
    """Of any kind: a trained model gives the same result twice, with gradients too, and as the frozen one."""
    from fixtures_update import update_params

    from r1_searcher.update.trainers import DeepSpeedTrainer

    settings = update_params(gradient_checkpointing=checkpointing, minibatches=1)
    trainer = DeepSpeedTrainer(folders(kind), settings, learning_rate=1e-3)
    inner = trainer.engine.module.model
    calls: list[int] = []
    inner.get_decoder().layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    ids, masks = [[3, 5, 8, 13, 21, 34]], [[False, False, True, True, True, True]]
    old = trainer.logprobs(ids, masks)
    calls.clear()
    metrics = trainer.update(TrainingBatch(ids, masks, [[1.0] * 4], old, ["t"]))
    assert metrics["logprob_gap_max"] < 1e-5
    assert len(calls) == (2 if checkpointing else 1)  # recomputed in the backward pass
    trainer.close()
