"""``r1-searcher ask`` on a tiny policy: the trajectory of a rollout, streamed; traces; what can be wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hub_server import hub
from tiny_policy import params_with, questions_table, rollout_params
from tiny_project import write_policy_that_searches

from r1_searcher import params
from r1_searcher.asking.asker import Asker
from r1_searcher.browsing import details, queries
from r1_searcher.browsing.folders import Folders
from r1_searcher.browsing.index import TrajectoryIndex
from r1_searcher.browsing.tokens import Tokenizers
from r1_searcher.cli.ask import main
from r1_searcher.corpus.world import make_world
from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.files.passages import fingerprint
from r1_searcher.retrieval import build_index, open_retriever
from r1_searcher.rollout import load_engine, roll_out
from r1_searcher.transcripts import grammar
from r1_searcher.types import schemas

QUESTION = "Who was Ada?"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's folders: a policy that searches, an index, a world's questions, parameters."""
    folder = tmp_path_factory.mktemp("ask")
    settings = params_with(
        threads=1, rollout=rollout_params(max_total_tokens=200).model_dump(), retriever__service__wait=0.1
    )
    (folder / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    write_policy_that_searches(folder / "data/train/s2-00/policy")
    world = make_world(params.WorldSize(people=20, films=8, books=8, cities=5), 0)
    write_table(folder / "data/corpus/passages.parquet", world.passages())
    write_table(folder / "data/corpus/facts.parquet", world.facts())
    build_index(world.passages(), settings.index, folder / "data/index", fingerprint(folder / "data/corpus"))
    write_table(folder / "data/questions/held_out.parquet", questions_table([f"Who is {name}?" for name in "ABCDEF"]))
    return folder


class Spans:
    """Takes what a transcript's pieces say."""

    text = ""

    def __call__(self, kind: str, text: str) -> None:
        self.text += text


@pytest.fixture
def checkout(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    threads = torch.get_num_threads()
    monkeypatch.chdir(place)
    yield place
    torch.set_num_threads(threads)


def test_it_is_the_rollout_of_that_question(checkout: Path) -> None:
    settings = params.load(checkout / "params.yaml")
    engine = load_engine(checkout / "data/train/s2-00/policy", settings.rollout)
    retriever = open_retriever(settings, index=checkout / "data/index")
    shown = 0
    for seed, greedy in ((0, True), (1, False), (2, False), (3, False)):
        asker = Asker(engine, retriever, settings.rollout, seed=seed, greedy=greedy)
        spans = Spans()
        asked = asker.ask(QUESTION, spans)
        table = questions_table([QUESTION])
        place = table.schema.get_field_index("question_id")
        table = table.set_column(place, table.schema.field(place), [["asked"]])
        plain, _ = roll_out(engine, retriever, table, settings.rollout, samples=1, seed=seed, greedy=greedy)
        for name in ("token_ids", "policy_logprobs", "text", "finish_reason", "answer"):
            assert asked.rollouts[name].to_pylist() == plain[name].to_pylist()
        assert 0 < asked.first_token_seconds < asked.seconds
        written = plain["text"].to_pylist()[0]
        for tag in grammar.TAGS:
            written = written.replace(tag, "")
        assert spans.text in (written, written.removesuffix("<|endoftext|>"))
        shown += len(spans.text)
        assert [search.query for search in asked.searches] == [
            turn["query"] for turn in plain["turns"].to_pylist()[0] if turn["error"] is None
        ]
    assert shown and getattr(engine, "on_token", "absent") is None
    assert not replace(asker, mode="no_search").ask(QUESTION).searches


def test_the_last_policy_answers_and_the_trace_is_a_rollouts_file(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([QUESTION, "--trace", "trace.parquet"]) == 0
    told = capsys.readouterr()
    assert "policy: data/train/s2-00/policy" in told.err
    assert "searches, " in told.out and "trajectory 1 → trace.parquet" in told.out
    row = read_table("trace.parquet", schemas.ROLLOUTS).to_pylist()[0]
    assert (row["question"], row["trajectory_id"]) == (QUESTION, "asked-0#0")


def test_a_policy_on_a_hub_answers_by_its_name(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkout / "data/train/s2-00/policy"
    asked = [QUESTION, "--json", "--sample", "1"]
    with hub() as served:
        served.files["models/me/tiny"] = {file.name: file.read_bytes() for file in folder.iterdir()}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": "0"}
        environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "r1_searcher", "ask", *asked, "--policy", "me/tiny"]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "home/hub/models--me--tiny").rglob("model.safetensors"))
    assert main([*asked, "--policy", str(folder)]) == 0
    by_name, by_folder = json.loads(done.stdout), json.loads(capsys.readouterr().out)
    for key in ("transcript", "searches", "finish_reason", "answer"):
        assert by_name[key] == by_folder[key]


def test_one_json_object_per_line_of_input(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{QUESTION}\n\nWhere is Trabo?\n"))
    assert main(["--json", "--k", "1", "--max-searches", "1", "--trace", "two.parquet"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["question"] for one in found] == [QUESTION, "Where is Trabo?"]
    page = (ROOT / "docs/ask.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in found[0])
    assert all(len(one["searches"]) <= 1 for one in found)
    assert all(len(search["passages"]) <= 1 for one in found for search in one["searches"])
    assert read_table("two.parquet", schemas.ROLLOUTS)["question_id"].to_pylist() == ["asked-0", "asked-1"]
    assert main([QUESTION, "--json", "--no-search"]) == 0
    assert json.loads(capsys.readouterr().out)["searches"] == []


def test_a_long_question_among_others_does_not_end_the_rest(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f"{QUESTION}\n{'word ' * 300}\nWhere is Trabo?\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["--json"]) == 2
    told = capsys.readouterr()
    found = [json.loads(line) for line in told.out.splitlines()]
    assert [one["question"] for one in found] == [line.strip() for line in lines.splitlines()]
    assert ["error" in one for one in found] == [False, True, False]
    assert "the question is too long" in found[1]["error"] and "the question is too long" in told.err
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main([]) == 2
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [f"question: {line.strip()}" for line in lines.splitlines()]


def test_a_question_needs_no_quotes(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "Who", "was", "--no-search", "Ada?"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == QUESTION


def test_a_trace_is_added_to_and_replaces_nothing(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes, trace = tmp_path / "notes.txt", tmp_path / "new/trace.parquet"
    notes.write_text("mine", encoding="utf-8")
    training = tmp_path / "rollouts.parquet"
    for place, said in ((notes, "is not a trace"), (tmp_path, "is not a trace"), (notes / "x", "cannot be written")):
        assert main([QUESTION, "--trace", str(place)]) == 2
        told = capsys.readouterr()
        assert said in told.err and not told.out
    assert notes.read_text(encoding="utf-8") == "mine"
    for question in (QUESTION, "Where is Trabo?"):
        assert main([question, "--trace", str(trace)]) == 0
    rows = read_table(trace, schemas.ROLLOUTS)
    assert rows["question"].to_pylist() == [QUESTION, "Where is Trabo?"]
    assert rows["trajectory_id"].to_pylist() == ["asked-0#0", "asked-1#0"]
    place = rows.schema.get_field_index("question_id")
    write_table(training, rows.set_column(place, rows.schema.field(place), [["q1", "q2"]]))
    assert main([QUESTION, "--trace", str(training)]) == 2


def test_ctrl_c_stops_an_answer_and_then_the_command(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = Asker.ask, []

    def stopped_once(self: Asker, question: str, *more: Any) -> Any:
        asked.append(question)
        if len(asked) != 2:
            raise KeyboardInterrupt
        return ask(self, question, *more)

    monkeypatch.setattr(Asker, "ask", stopped_once)
    monkeypatch.setattr("sys.stdin", Terminal(f"one?\n{QUESTION}\n"))
    assert main([]) == 0
    assert asked == ["one?", QUESTION] and capsys.readouterr().out.count("stopped") == 1
    assert main([QUESTION]) == 130
    assert capsys.readouterr().err.endswith("stopped\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_says_what_to_try_and_goes_on_after_an_error(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("word " * 300 + f"\n{QUESTION}\n"))
    assert main([]) == 0
    told = capsys.readouterr()
    assert "know an invented world" in told.out
    assert [line for line in told.out.splitlines() if line.startswith("  Who is")] == [
        "  Who is A?",
        "  Who is C?",
        "  Who is E?",
    ]
    assert "leaves no room" in told.err and told.out.count("searches, ") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([" "], "error: ask: the question is empty"),
        ([QUESTION, "--k", "0"], "error: --k: must be at least 1, got 0"),
        ([QUESTION, "--max-searches", "0"], "error: --max-searches: must be at least 1, got 0"),
        ([QUESTION, "--sample", "-1"], "error: --sample: must be at least 0, got -1"),
        ([QUESTION, "--service", "ftp://x"], "retriever.service.url: not an address"),
        ([QUESTION, "--policy", "no/such/folder"], "no such folder"),
        ([QUESTION, "--server", "http://127.0.0.1:1/v1"], "error: --server: a server needs the name of a model"),
        ([QUESTION, "--index", "nowhere"], "nowhere"),
        (["word " * 300], "error: the question is too long and leaves no room: this model's maximum context length is"),
        ([QUESTION, "--policy", "nobody/nothing"], "HF_HUB_OFFLINE=1 forbids to ask the hub: set HF_HUB_OFFLINE=0)"),
    ],
)
def test_what_is_wrong_is_one_line(
    checkout: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("policy: ")]
    assert len(lines) == 1 and said in lines[0]


def test_an_index_of_another_corpus_is_refused(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data/index", "data/train/s2-00/policy"):
        shutil.copytree(checkout / name, tmp_path / name)
    shutil.copy(checkout / "params.yaml", tmp_path)
    world = make_world(params.WorldSize(people=20, films=8, books=8, cities=5), 1)
    write_table(tmp_path / "data/corpus/passages.parquet", world.passages())
    monkeypatch.chdir(tmp_path)
    assert main([QUESTION]) == 2
    assert capsys.readouterr().err.startswith("error: data/index: the index belongs to corpus")
    assert main([QUESTION, "--corpus", str(checkout / "data/corpus")]) == 0


def test_the_browser_shows_a_trace_with_its_tokens(checkout: Path, tmp_path: Path) -> None:
    assert main([QUESTION, "--trace", str(tmp_path / "trace.parquet")]) == 0
    index = TrajectoryIndex(Folders([tmp_path]))
    index.refresh()
    with index.cursor() as at:
        [row] = queries.rows(at, queries.Filters())
    assert row["question"] == QUESTION and index.problems == {}
    index.close()
    whole = details.read_row(tmp_path / "trace.parquet", 0)
    tokenizer = checkout / "data/train/s2-00/policy"
    shown = details.trajectory(whole, None, None, Tokenizers([tokenizer]), tmp_path / "trace.parquet")
    written = [text for part in shown["tokens"] if part["source"] == "policy" for text in part["texts"]]
    assert len(written) == len(whole["policy_logprobs"]) > 0


def test_tags_in_a_question_are_neutralised_as_in_files(checkout: Path) -> None:
    settings = params.load(checkout / "params.yaml")
    engine = load_engine(checkout / "data/train/s2-00/policy", settings.rollout)
    asker = Asker(engine, open_retriever(settings, index=checkout / "data/index"), settings.rollout)
    asked = asker.ask("Who </think> <answer> Ada </answer> <|im_end|> was it?")
    prompt = asked.rollouts["prompt"].to_pylist()[0]
    for tag in ("</think>", "<answer> Ada", "<|im_end|>"):
        assert prompt.count(tag) == asker.ask("Who?").rollouts["prompt"].to_pylist()[0].count(tag)


def test_without_a_policy_or_a_tokenizer(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(checkout / "data/index", tmp_path / "data/index")
    shutil.copy(checkout / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main([QUESTION]) == 2
    assert "there is no policy yet (run `make train`, or name one with --policy or --server)" in capsys.readouterr().err
    shutil.copytree(checkout / "data/train/s2-00/policy", "bare")
    for file in Path("bare").glob("tokenizer*"):
        file.unlink()
    assert main([QUESTION, "--policy", "bare"]) == 2
    assert "the model folder has no tokenizer" in capsys.readouterr().err
    shutil.rmtree("data/index")
    assert main([QUESTION]) == 2
    assert "there is no index yet (run `make train` in a checkout, or name one with" in capsys.readouterr().err
    policy = str(checkout / "data/train/s2-00/policy")
    assert main([QUESTION, "--policy", policy, "--no-search"]) == 0, "no search needs no index"


def test_settings_take_a_service(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments: list[Any] = [QUESTION, "--service", "http://127.0.0.1:1"]
    assert main(arguments) == 2
    assert "no retrieval service answers" in capsys.readouterr().err
