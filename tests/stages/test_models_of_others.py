"""Folders from outside: none of their code runs, nothing beside them is read, and faults give one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures_update import update_params
from tiny_architectures import write_kind
from tiny_policy import rollout_params

from r1_searcher.errors import PipelineError
from r1_searcher.files.weights import weight_files
from r1_searcher.model_folders import load_model, load_tokenizer
from r1_searcher.models.imported import import_model
from r1_searcher.rollout import load_engine
from r1_searcher.update.model import load_model as load_trained


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kind(tmp_path_factory.mktemp("theirs") / "policy", "Llama")


def copy_of(policy: Path, folder: Path, **config: Any) -> Path:
    shutil.copytree(policy, folder)
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(known | config))
    return folder


def test_code_in_a_folder_does_not_run_even_where_somebody_would_say_yes(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto_map = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    folder = copy_of(policy, tmp_path / "own", auto_map=auto_map, model_type="nobody-knows")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    tokens |= {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for opener in (
        lambda: load_model(folder, dtype="float32"),
        lambda: load_tokenizer(folder),
        lambda: load_trained(folder, update_params(), trained=False),
        lambda: load_engine(folder, rollout_params()),
        lambda: load_engine(folder, rollout_params(engine="vllm")),
    ):
        with pytest.raises(PipelineError):
            opener()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["a.bin", "../outside.safetensors", "/etc/x.safetensors", "a\\b.safetensors", ".safetensors", 3]
)
def test_shards_are_plain_names_of_safetensors(name: Any, policy: Path, tmp_path: Path) -> None:
    folder = copy_of(policy, tmp_path / "shards")
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (folder / "a.bin").write_bytes(b"no pickle either")
    (folder / "x.safetensors").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    for opener in (
        lambda: weight_files(folder),
        lambda: load_model(folder, dtype="float32"),
        lambda: load_trained(folder, update_params(), trained=False),
    ):
        with pytest.raises(PipelineError, match=r"index\.json: names .* not a safetensors file in this folder"):
            opener()


@pytest.mark.parametrize("source", ["inputs/base_model/nowhere", "./nowhere", "/nowhere"])
def test_a_path_at_which_there_is_nothing(source: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=f"{source}: no such folder"):
        import_model(source, tmp_path, "float32")


def test_a_temperature_that_nobody_says_to_use(policy: Path, tmp_path: Path) -> None:
    folder = copy_of(policy, tmp_path / "vicuna")
    (folder / "generation_config.json").write_text(
        json.dumps({"temperature": 0.9, "top_p": 0.6, "eos_token_id": [3, 4]})
    )
    import_model(str(folder), tmp_path / "base_model", "float32")
    assert load_model(tmp_path / "base_model", dtype="float32").generation_config.eos_token_id == [3, 4]
