"""An exported policy gives the same greedy answers elsewhere: by its script, from a hub, and as a GGUF file."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hub_server import TOKEN, hub
from huggingface_hub import ModelCard
from other_servers import serve as other_servers
from tiny_architectures import write_kind
from transformers import AutoModelForCausalLM

from r1_searcher.asking.asker import Asker
from r1_searcher.cli.export import main
from r1_searcher.errors import PipelineError
from r1_searcher.exporting.card import model_card
from r1_searcher.exporting.curves import curves_svg
from r1_searcher.exporting.facts import gather
from r1_searcher.exporting.gguf_file import GGUF_KINDS, write_gguf
from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.params import shipped
from r1_searcher.report.inputs import IterationFigures
from r1_searcher.retrieval import build_index
from r1_searcher.retrieval.bm25 import open_index
from r1_searcher.rollout import load_engine
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.schemas import EVALUATION

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "baselines/code"
POLICY = CODE / "policy"  # trained on the laptop profile, and it searches
QUESTIONS = 6


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed policy, exported by the command, with a GGUF file and an evaluation of exactly these weights."""
    place = tmp_path_factory.mktemp("export")
    (place / "params.yaml").write_text((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    shutil.copytree(POLICY, place / "data/train/s2-00/policy")
    sha256 = json.loads((POLICY / "manifest.json").read_text())["sha256"]
    for name, owner in (("stage2", sha256), ("stage1", "0" * 64)):
        card = {"benchmark": "held_out", "mode": "search", "policy": name, "policy_sha256": owner, "k": 2}
        rows = [row(number) for number in range(4)]
        table = EVALUATION.empty_table().from_pylist(rows, schema=EVALUATION)
        told = {"card": card, "kinds": ["composition"], "needed_searches": 2.0}
        write_table(place / "data/evaluation" / name / "held_out.parquet", table, told)
    here = Path.cwd()
    os.chdir(place)
    try:
        assert main(["policy", "--out", "exports/my-agent", "--gguf", "F16", "--licence", "apache-2.0"]) == 0
    finally:
        os.chdir(here)
    return place / "exports/my-agent"


def row(number: int) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(EVALUATION.names)
    right = float(number < 3)
    figures = {"em": right, "f1": right, "cover_em": right, "cover_em_contiguous": right, "format_right": True}
    counts = {"num_searches": 2, "num_tokens": 100}
    words = {"question": "q", "answers": ["a"], "prediction": "a", "finish_reason": "answer", "text": ""}
    return values | figures | counts | words | {"question_id": f"q{number}", "segments": [], "violations": []}


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    folder = tmp_path_factory.mktemp("index")
    passages = read_table(CODE / "passages.parquet")
    build_index(passages, shipped().index, folder, "0" * 64)
    return open_index(folder)


@pytest.fixture(scope="module")
def expected(retriever: Retriever) -> list[tuple[str, str | None, str]]:
    """Questions, with the answers and transcripts of this project's own engine."""
    table = read_table(next((CODE / "questions").rglob("held_out*.parquet")))
    asker = Asker(load_engine(POLICY, shipped().rollout), retriever, shipped().rollout)
    asked = [asker.ask(question) for question in table["question"].to_pylist()[:QUESTIONS]]
    return [(one.question, one.answer, one.rollouts["text"][0].as_py()) for one in asked]


def answers_of_script(
    folder: Path, retriever: Retriever, questions: list[str], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str | None, str]]:
    """Ask through the folder's own ask.py, which knows nothing of this project."""
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("ask", None)
    from ask import Agent  # type: ignore[import-not-found]

    agent = Agent(folder)

    def search(query: str, k: int) -> list[tuple[str, str]]:
        found = retriever.search([query], k)[0]
        assert isinstance(found, list)
        return [(one.title, one.text) for one in found]

    return [(question, *agent.answer(question, search)) for question in questions]


def test_the_script_of_the_folder_gives_the_same_transcripts(
    exported: Path,
    retriever: Retriever,
    expected: list[tuple[str, str | None, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    questions = [question for question, _, _ in expected]
    assert answers_of_script(exported, retriever, questions, monkeypatch) == expected
    assert sum(answer is not None for _, answer, _ in expected) > QUESTIONS // 2
    text = (exported / "ask.py").read_text(encoding="utf-8")
    assert "r1_searcher" not in text


def test_the_script_searches_by_a_server(
    exported: Path,
    expected: list[tuple[str, str | None, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    question = next(question for question, _, text in expected if "<|begin_of_documents|>" in text)
    with other_servers() as state:
        address = f"{state.base}/search-r1"
        monkeypatch.setattr(sys, "argv", ["ask.py", question, "--service", address])
        script = runpy.run_path(str(exported / "ask.py"), run_name="__main__")
        found = script["service"](address)("Silent Castle", 1)
    written = capsys.readouterr().out
    assert "answer:" in written
    searched = [body for place, body in state.asked if place.endswith("/retrieve")]
    assert len(searched) == written.count("<|begin_of_documents|>") + 1 > 1
    assert (
        found == [("Silent Castle", "Silent Castle is a film.\nIt was directed by Ada Penn.")]
        and searched[0]["topk"] == shipped().rollout.k
    )


def test_the_card_says_what_it_is(exported: Path) -> None:
    card = ModelCard.load(exported / "README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "transformers"
    results = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert results["em"] == 0.75
    text = card.text
    assert "0.750 (" in text and "| held_out | search | 4 |" in text, "measured on exactly these weights"
    assert "stage1" not in (exported / "protocol_cards.json").read_text(), "figures of other weights are left out"
    assert "`no_search` forces" in text and "--service http" in text
    assert "my-agent-F16.gguf" in text and "| seed | 0 |" in text and "{{" not in text and "{%" not in text
    assert "\n\n## Limits\n" in text and "\n\n## Licence\n" in text
    assert yaml.safe_load((exported / "params.yaml").read_text())["profile"] == "laptop"


def test_pushed_and_fetched_it_is_the_same(
    exported: Path,
    retriever: Retriever,
    expected: list[tuple[str, str | None, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (exported / "__pycache__").mkdir(exist_ok=True)
    (exported / "__pycache__/ask.pyc").touch()
    with hub() as served:
        environment = {**os.environ, "HF_ENDPOINT": served.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

        def run(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, *words], env=environment | changes, capture_output=True, text=True, check=False
            )

        push = ("-m", "r1_searcher", "push", str(exported), "me/my-agent")
        wrong = run(*push, HF_TOKEN="hf_wrong")
        assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
        assert "the hub answered 401" in wrong.stderr and "HF_TOKEN" in wrong.stderr and "hf_wrong" not in wrong.stderr
        done = run(*push)
        assert (done.returncode, done.stdout) == (0, f"{exported} → {served.url}/me/my-agent\n"), done.stderr
        assert served.private == {"models/me/my-agent": True} and served.commits == ["Upload my-agent"]
        files = served.files["models/me/my-agent"]
        assert files.keys() == {path.name for path in exported.iterdir()} - {"files.sha256", "__pycache__"}
        fetch = "import sys, huggingface_hub as h; h.snapshot_download('me/my-agent', local_dir=sys.argv[1])"
        fetched = run("-c", fetch, str(tmp_path / "fetched"))
        assert fetched.returncode == 0, fetched.stderr
    questions = [question for question, _, _ in expected]
    assert answers_of_script(tmp_path / "fetched", retriever, questions, monkeypatch) == expected


def test_what_cannot_be_pushed_is_one_line(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from r1_searcher.exporting.hub import push_folder

    with pytest.raises(PipelineError, match=r"no README\.md: only exported folders"):
        push_folder(tmp_path, "me/x")
    with pytest.raises(PipelineError, match="has a model, not a dataset"):
        push_folder(exported, "me/x", kind="dataset")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PipelineError, match="HF_HUB_OFFLINE=1: the hub is switched off"):
        push_folder(exported, "me/x")
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    program = [sys.executable, "-m", "r1_searcher", "push", str(exported), "me/x"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "http://127.0.0.1:9: the hub cannot be reached" in done.stderr


@pytest.mark.parametrize("kind", GGUF_KINDS)
def test_a_gguf_file_says_the_same(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.gguf"
    write_gguf(POLICY, file, kind=kind)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name)
    plain = AutoModelForCausalLM.from_pretrained(POLICY)
    assert_alike(model, plain, exact=kind == "F32")


def assert_alike(model: Any, plain: Any, *, exact: bool) -> None:
    """The same probabilities (of rounded weights: nearly), for tokens that mean something to neither."""
    ids = torch.arange(5, 55)[None]
    with torch.no_grad():
        ours, theirs = (torch.softmax(one(ids).logits, -1) for one in (model, plain))
    assert torch.allclose(ours, theirs, atol=1e-5 if exact else 0.1)
    assert (ours.argmax(-1) == theirs.argmax(-1)).float().mean() > (0.999 if exact else 0.9)


def test_llamas_rotary_rows_are_turned(tmp_path: Path) -> None:
    folder = write_kind(tmp_path / "llama", "Llama", attention_bias=False, num_key_value_heads=2)
    write_gguf(folder, tmp_path / "llama.gguf", kind="F32")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="llama.gguf")
    assert_alike(model, AutoModelForCausalLM.from_pretrained(folder), exact=True)


def test_its_tokenizer_is_whole(exported: Path) -> None:
    from gguf import GGUFReader, TokenType

    fields = GGUFReader(exported / "my-agent-F16.gguf").fields
    stored = json.loads((POLICY / "tokenizer.json").read_text(encoding="utf-8"))
    texts = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert [stored["model"]["vocab"][text] for text in texts[1:100]] == list(range(1, 100))
    for token in stored["added_tokens"]:
        assert texts[token["id"]] == token["content"]
        assert kinds[token["id"]] == (TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED)
    assert (
        fields["tokenizer.ggml.pre"].contents() == "qwen2"
        and len(texts)
        == np.max([*stored["model"]["vocab"].values(), *(token["id"] for token in stored["added_tokens"])]) + 1
    )


def test_what_gguf_cannot_say_is_refused(tmp_path: Path) -> None:
    for kind, word in (("Gemma 1", "'gemma'"), ("Qwen2", "rule that splits")):
        folder = write_kind(tmp_path / kind, kind)
        if kind == "Qwen2":
            tokenizer = json.loads((folder / "tokenizer.json").read_text())
            tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
            (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        with pytest.raises(PipelineError, match=word):
            write_gguf(folder, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_a_policy_without_its_tokenizer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(POLICY, tmp_path / "policy", ignore=shutil.ignore_patterns("tokenizer.json"))
    (tmp_path / "params.yaml").write_text((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    assert main(["policy", "--policy", "policy", "--out", "out"]) == 2
    assert "the policy folder has no tokenizer" in capsys.readouterr().err and not Path("out").exists()
    assert main(["policy", "--policy", "policy", "--out", "policy"]) == 2
    assert "would replace the policy itself" in capsys.readouterr().err
    shutil.copyfile(POLICY / "tokenizer.json", "policy/tokenizer.json")
    Path("notes").mkdir()
    Path("notes/mine.txt").write_text("mine")
    for place, said in (("notes", "a folder with other files"), ("notes/mine.txt", "not a folder")):
        assert main(["policy", "--policy", "policy", "--out", place]) == 2
        assert said in capsys.readouterr().err and Path("notes/mine.txt").read_text() == "mine"
    assert main(["policy", "--out", "out"]) == 2
    assert "there is no policy yet (run `make train`, or name one with --policy)" in capsys.readouterr().err
    assert main(["policy", "--policy", "policy", "--out", "out", "--name", "a/b"]) == 2
    assert "--name: 'a/b' is not a model's name" in capsys.readouterr().err
    with open("policy/model.safetensors", "r+b") as weights:
        weights.truncate(1000)
    assert main(["policy", "--policy", "policy", "--out", "out"]) == 2
    assert "sha256" in capsys.readouterr().err and not Path("out").exists()


def test_facts_of_a_foreign_folder_are_few(tmp_path: Path) -> None:
    facts = gather(POLICY, shipped(), params_file=tmp_path / "none", root=tmp_path)
    assert (facts.segment, facts.measured, facts.curves, facts.params_text) == ("", [], [], "")
    card = model_card(facts, name="x", licence="")
    assert facts.sha256 in card and "| seed |" not in card and "invented world" not in card
    told = gather(POLICY, shipped(), params_file=tmp_path / "none", root=tmp_path, known=True)
    assert "| seed | 0 |" in model_card(told, name="x", licence="")


def test_curves_are_one_picture() -> None:
    from xml.etree import ElementTree

    curves = [
        IterationFigures(number, "stage1", {"reward": number / 9, "f1": 0.1, "format_rate": 1.0, "searches": 2.0})
        for number in range(1, 10)
    ]
    picture = ElementTree.fromstring(curves_svg(curves))
    assert len(picture.findall("{http://www.w3.org/2000/svg}g")) == 4
