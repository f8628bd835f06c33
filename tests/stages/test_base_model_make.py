"""The tiny base model from parameters to folder, twice the same; users' models, and their faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_policy import params_with, questions_table, rollout_params, tokenizer

from r1_searcher import params
from r1_searcher.corpus.world import make_world
from r1_searcher.errors import PipelineError
from r1_searcher.files import sums
from r1_searcher.files.artefacts import sha256_file, sha256_tree, write_table
from r1_searcher.models.imported import check_grammar, import_model
from r1_searcher.models.tiny import make_tiny
from r1_searcher.questions.compose import compose
from r1_searcher.questions.shown_passages import ShownPassages
from r1_searcher.retrieval import build_index, open_index
from r1_searcher.rollout import load_engine, roll_out
from r1_searcher.types.protocols import Passage
from stages.base_model.__main__ import main

SMALLEST = {
    "threads": 1,
    "corpus__world": {"people": 40, "films": 24, "books": 24, "cities": 10},
    "questions__world": {"train": 8, "validation": 4, "held_out": 4, "held_out_kind": 4, "comparison": 4},
    "base_model__tiny__layers": 1,
    "base_model__tiny__hidden": 16,
    "base_model__tiny__heads": 2,
    "base_model__tiny__kv_heads": 1,
    "base_model__tiny__feed_forward": 24,
    "base_model__tiny__vocabulary": 500,
    "base_model__tiny__worlds": 2,
    "base_model__tiny__tokens": 3000,
    "base_model__tiny__anneal_tokens": 500,
    "base_model__tiny__tokens_a_step": 600,
    "base_model__measure_questions": 3,
    "base_model__measure_samples": 2,
    "rollout__max_total_tokens": 320,
}


@pytest.fixture(scope="module", autouse=True)
def few_tokenizer_texts() -> Any:
    """Train the tokenizer on fewer texts than the real one, because it takes most of the time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("r1_searcher.models.tiny.NUM_TOKENIZER_TEXTS", 200)
        yield


def smallest(**changes: Any) -> params.Params:
    return params_with(**SMALLEST | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("tiny")
    lines: list[str] = []
    make_tiny(smallest(), folder, lines.append)
    return folder, lines


def test_the_folder_is_a_model_like_any_other(made: tuple[Path, list[str]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, lines = made
    model = AutoModelForCausalLM.from_pretrained(folder)
    names = AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "qwen2"
    assert model.config.vocab_size == len(names) == 500
    assert model.config.eos_token_id == names.eos_token_id
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == {
        "sha256": sha256_file(folder / "model.safetensors"),
        "parent": None,
        "step": 0,
        "source": "tiny",
        "seed": 0,
    }
    assert "parameters" in lines[0] and [line.split(":")[0] for line in lines[1:]] == ["base model", "anneal"]
    engine = load_engine(folder, rollout_params())
    rollouts, _ = roll_out(engine, open_nothing(), questions_table(["Who?"]), rollout_params(), samples=2, seed=0)
    assert rollouts.num_rows == 2


def open_nothing() -> Any:
    from tiny_policy import ScriptedRetriever

    return ScriptedRetriever(lambda query: [])


def test_the_same_parameters_make_the_same_bytes_and_another_seed_does_not(
    made: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = made
    again, other = tmp_path / "again", tmp_path / "other"
    for place, seed in ((again, 0), (other, 1)):
        place.mkdir()
        make_tiny(smallest(seed=seed), place, lambda line: None)
    assert sha256_tree(again) == sha256_tree(folder)
    assert sha256_file(other / "model.safetensors") != sha256_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout__prompt": "instruct"}, r"rollout\.prompt: prompt 'instruct' is for instruct models"),
        ({"rollout__max_total_tokens": 12}, r"rollout\.max_total_tokens: .*no text"),
    ],
)
def test_parameters_that_cannot_work(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=message):
        make_tiny(smallest(**changes), tmp_path, lambda line: None)


# --- the commands


def test_make_and_measure_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = smallest(base_model__tiny__tokens=800)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    deterministic = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    try:
        policy = tmp_path / "base_model"
        assert main(["make", "--out", str(policy), "--params", str(file)]) == 0
        world = make_world(settings.corpus.world, 0)
        splits = compose(world.facts(), settings.questions.world, 0)
        for split in ("validation", "train"):
            write_table(tmp_path / f"{split}.parquet", splits[split])
        build_index(world.passages(), settings.index, tmp_path / "index", "test")
        places = [
            *("--questions", str(tmp_path / "validation.parquet"), "--training", str(tmp_path / "train.parquet")),
            *("--index", str(tmp_path / "index")),
        ]
        out = tmp_path / "base_model.json"
        command = ["measure", "--policy", str(policy), *places, "--out", str(out), "--params", str(file)]
        assert main(command) == 0
        cut, tight = settings.model_dump(mode="json"), tmp_path / "tight.yaml"
        cut["rollout"]["max_passage_tokens"] = 2
        cut["questions"]["too_long"] = "leave_out"  # none is: the same questions are measured
        tight.write_text(yaml.safe_dump(cut), encoding="utf-8")
        assert main([*command[:-3], str(tmp_path / "cut.json"), "--params", str(tight)]) == 0
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
    found = json.loads(out.read_text())
    assert {name: rates["n"] for name, rates in found.items()} == {"greedy": 3, "sampled": 6}
    for rates in found.values():
        assert all(0 <= rates[name] <= 1 for name in ("search_rate", "format_rate", "em", "f1", "cover_em"))
    printed = capsys.readouterr()
    found = json.loads((tmp_path / "cut.json").read_text())
    assert found["cut_answers"]["num_lost"] > 0 and found["sampled"]["n"] == 6
    assert "lose it to truncation" in printed.out
    assert "base policy, sampled: search_rate" in printed.out and not printed.err
    assert open_index(tmp_path / "index").search(["x"], 1)


def test_the_audit_cuts_passages_with_the_policys_tokenizer(made: tuple[Path, list[str]]) -> None:
    rollout = params.shipped().rollout.model_copy(update={"max_passage_tokens": 2})
    passage = Passage("p", "Silent Crown", "Ann Lee directed Silent Crown.", 1.0)
    [text] = ShownPassages(made[0], rollout).texts([passage])
    assert text and passage.text.startswith(text) and len(text) < len(passage.text) / 2


# --- models of the user's


@pytest.fixture(scope="module")
def policy(made: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a good model folder that is not ours."""
    folder = tmp_path_factory.mktemp("theirs") / "model"
    shutil.copytree(made[0], folder)
    (folder / "manifest.json").unlink()
    return folder


def test_a_good_model_is_imported_whole(policy: Path, tmp_path: Path) -> None:
    target = tmp_path / "base_model"
    target.mkdir()
    import_model(str(policy), target, "float32")
    engines: list[Any] = [load_engine(place, rollout_params()) for place in (policy, target)]
    theirs, ours = engines
    for name, weight in theirs._model.named_parameters():
        assert torch.equal(dict(ours._model.named_parameters())[name], weight)
    text = "Ada Kolm <|begin_of_query|> é"
    assert ours.encode(text) == theirs.encode(text)
    manifest = json.loads((target / "manifest.json").read_text())
    sha256 = sha256_file(target / "model.safetensors")
    assert manifest == {"sha256": sha256, "parent": str(policy), "step": 0, "source": str(policy)}


def broken(policy: Path, tmp_path: Path, fault: str) -> Path:
    folder = tmp_path / "broken"
    shutil.copytree(policy, folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    match fault:
        case "no tokenizer":
            for file in folder.glob("tokenizer*"):
                file.unlink()
        case "no config":
            config.unlink()
        case "no weights":
            weights.unlink()
        case "tokenizer is no JSON":
            (folder / "tokenizer.json").write_text("{")
        case "tokenizer of nothing":
            (folder / "tokenizer.json").write_text('{"model": {"type": "nothing"}}')
        case "config is no JSON":
            config.write_text("{")
        case "unknown architecture":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "nothing"}))
        case "weights cut short":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "weights of another size":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 32}))
        case "weights of fewer layers":
            changed = {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2, "max_window_layers": 2}
            config.write_text(json.dumps(json.loads(config.read_text()) | changed))
        case _:
            raise AssertionError(fault)
    return folder


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no tokenizer", "the model folder has no tokenizer"),
        ("no config", "not a Hugging Face model folder: no config.json"),
        ("no weights", "no model could be opened"),
        ("tokenizer is no JSON", "no tokenizer could be opened"),
        ("tokenizer of nothing", "no tokenizer could be opened"),
        ("config is no JSON", "could be opened"),
        ("unknown architecture", "could be opened"),
        ("weights cut short", "no model could be opened"),
        ("weights of another size", "weight is ("),
        ("weights of fewer layers", "model.layers.1.input_layernorm.weight is missing"),
    ],
)
def test_a_broken_model_is_one_clear_line(
    fault: str, message: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = broken(policy, tmp_path, fault)
    target = tmp_path / "base_model"
    target.mkdir()
    (target / "kept").write_text("made before")
    sums.write(target)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(smallest(base_model__source=str(folder)).model_dump(mode="json")), encoding="utf-8")
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        assert main(["--out", str(target), "--params", str(file)]) == 2
    finally:
        torch.use_deterministic_algorithms(deterministic)
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith(f"error: {folder}: ") and message in line
    assert sorted(path.name for path in target.iterdir()) == [
        "files.sha256",
        "kept",
    ]  # the previous content is unchanged


def test_a_model_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"nobody/no-such-model: no tokenizer could be opened"):
        import_model("nobody/no-such-model", tmp_path, "float32")


class Lossy:
    """Make a tokenizer that folds white space, or loses a tag."""

    def __init__(self, lost: str) -> None:
        self.lost = lost

    def encode(self, text: str, **options: Any) -> list[int]:
        return list(map(ord, text))

    def decode(self, ids: list[int], **options: Any) -> str:
        return "".join(map(chr, ids)).replace(self.lost, "")


@pytest.mark.parametrize(("lost", "named"), [("</think>", "'</think>'"), ("\n", "'white space or letters'")])
def test_a_tokenizer_that_loses_the_grammar(lost: str, named: str) -> None:
    with pytest.raises(PipelineError, match=f"mine: the tokenizer does not give .* back: {named} is changed"):
        check_grammar(Lossy(lost), "mine")
    for tags_are_tokens in (True, False):
        check_grammar(tokenizer(tags_are_tokens), "ours")
