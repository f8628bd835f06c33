"""examples/with_*.py: the commands at their top run with the other trainers' libraries, and rewards are ours."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from tiny_project import make_project

from r1_searcher import params
from r1_searcher.cli.export import main as export
from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.questions.files import read_questions
from r1_searcher.retrieval import open_retriever
from r1_searcher.rewards.rules import rules_of
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.rollout import load_engine, roll_out
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Segment, Transcript

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_project(tmp_path_factory.mktemp("other"), {})
    settings = yaml.safe_load((place / "params.yaml").read_text(encoding="utf-8"))
    settings["rollout"] |= {"max_total_tokens": 250, "max_passage_tokens": 20}
    (place / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return place


def run(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the command at an example's top in ``place``; return its globals."""
    (command,) = re.findall(r"^    (python examples/.*)$", (EXAMPLES / name).read_text(encoding="utf-8"), re.MULTILINE)
    python, script, *arguments = shlex.split(command)
    assert (python, script) == ("python", f"examples/{name}")
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def reward_of(place: Path, parts: list[Segment], question: dict[str, Any]) -> float:
    """Return the reward of a transcript by the rules themselves."""
    reward = params.load(place / "params.yaml").reward
    searches = sum(part.source == "document" for part in parts)
    score = rules_of(reward.set, reward.answer_metric).score(
        Transcript.of(parts), question["answers"], 2, num_searches=searches, question=question["question"]
    )
    return score.total


def parts_of(text: str) -> list[Segment]:
    """Return a transcript's parts; here nothing but the system writes document blocks."""
    pieces = re.split(r"(\s*<\|begin_of_documents\|>.*?<\|end_of_documents\|>\s*)", text, flags=re.DOTALL)
    return [Segment("document" if grammar.DOCUMENTS in piece else "policy", piece) for piece in pieces if piece]


def test_openenv(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = run("with_openenv.py", place, monkeypatch)
    assert len(re.findall(r"^reward [+-]\d\.\d\d: …", capsys.readouterr().out, re.MULTILINE)) == 2
    questions = read_table("data/questions/train.parquet").to_pylist()
    played = made["main"](3)
    assert len(played) == 3 and len({text for text, _ in played}) == 3
    for (text, reward), question in zip(played, questions, strict=False):
        assert text.count(grammar.DOCUMENTS) == 1 and reward == reward_of(place, parts_of(text), question)


def test_verifiers(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = run("with_verifiers.py", place, monkeypatch)
    assert len(re.findall(r"^reward [+-]\d\.\d\d  searches \d", capsys.readouterr().out, re.MULTILINE)) == 4
    outputs = made["main"](8)["outputs"]
    assert len(outputs) == 8 and sum(output["searches"] for output in outputs) > 2
    for output in outputs:
        assert output["error"] is None and output["search_reward"] == output["reward"]
        assert output["reward"] == reward_of(place, parts_of(output["completion"]), output["info"])


def test_trl(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run("with_trl.py", place, monkeypatch)
    assert len(re.findall(r"^step [12]: reward [+-]\d\.\d\d\d, loss ", capsys.readouterr().out, re.MULTILINE)) == 2


def test_trl_gets_our_tokens_masks_and_rewards(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from r1_searcher.environments.for_trl import dataset_of, rollout_function, search_reward, tokens_of
    from r1_searcher.model_folders import load_model

    monkeypatch.chdir(place)
    settings, questions = params.load(place / "params.yaml"), read_table("data/questions/train.parquet")
    engine, retriever = (
        load_engine("data/base_model", settings.rollout),
        open_retriever(settings, index=Path("data/index")),
    )
    model = load_model("data/base_model", dtype="float32")
    trainer = SimpleNamespace(
        model=model, accelerator=SimpleNamespace(unwrap_model=lambda one: one), state=SimpleNamespace(global_step=3)
    )
    prompts = [prompt for prompt in dataset_of(questions, settings)["prompt"] for _ in range(2)]
    given = rollout_function(engine, retriever, questions, settings)(prompts, trainer)
    rows = [
        {**row, "question_id": f"{row['question_id']}#{2 * n + one}"}
        for n, row in enumerate(questions.to_pylist())
        for one in (0, 1)
    ]
    again = questions.from_pylist(rows, schema=questions.schema)
    table, _ = roll_out(engine, retriever, again, settings.rollout, samples=1, seed=settings.seed + 3)
    assert {name: given[name] for name in tokens_of(table)} == tokens_of(table)
    assert given["search_reward"] == reward_table(table, settings.reward, 2)["total"].to_pylist()
    assert search_reward([], search_reward=given["search_reward"]) == given["search_reward"]
    for ids, mask, logprobs, sources in zip(
        given["completion_ids"], given["env_mask"], given["logprobs"], table["token_source"].to_pylist(), strict=True
    ):
        assert len(ids) == len(mask) == len(logprobs)
        assert mask == [int(source == grammar.POLICY) for source in sources[len(sources) - len(mask) :]]
        assert all(own or value == 0.0 for own, value in zip(mask, logprobs, strict=True))
    assert any(0 in mask for mask in given["env_mask"])


def test_documented_exports(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of docs/other-trainers.md, in a project with one trained segment."""
    documented_exports = re.findall(
        r"^    r1-searcher export (.*)$", (DOCS / "other-trainers.md").read_text("utf-8"), re.M
    )
    monkeypatch.chdir(place)
    settings, questions = params.load(place / "params.yaml"), read_table("data/questions/train.parquet")
    engine = load_engine("data/base_model", settings.rollout)
    table, _ = roll_out(
        engine, open_retriever(settings, index=Path("data/index")), questions, settings.rollout, samples=1, seed=0
    )
    write_table(Path("data/train/s2-00/rollouts/0000.parquet"), table, {"key": "k"})
    write_table(Path("data/train/s2-00/rewards/0000.parquet"), reward_table(table, settings.reward, 2))
    assert len(documented_exports) == 3
    for command in documented_exports:
        assert export(shlex.split(command)) == 0
    columns = ["question_id", "question", "answers", "dataset"]
    back = read_questions(Path("own/verl/train.parquet"))
    assert back.select(columns).to_pylist() == questions.select(columns).to_pylist()
    whole = load_dataset("own/rollouts", split="train", cache_dir="cache")
    assert list(whole["text"]) == table["text"].to_pylist()
    pairs = load_dataset("parquet", data_files="own/trl.parquet", split="train", cache_dir="cache")
    assert list(pairs["reward"]) == reward_table(table, settings.reward, 2)["total"].to_pylist()
