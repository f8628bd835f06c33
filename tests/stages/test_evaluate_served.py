"""Policies on servers, against a real HTTP server: every mode, what is kept, and faults."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chat_servers import ScriptedServer, completion, continuation, fault, serving
from fastapi.responses import Response
from tiny_policy import END, ScriptedEngine, ScriptedRetriever, check_rollouts, params_with, questions_table

import r1_searcher.rollout
from r1_searcher import params as contract
from r1_searcher.chat.chat_server import ChatServer
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.served import ASK, ServedEngine
from r1_searcher.evaluation.summary import gather
from r1_searcher.files import passages
from r1_searcher.files.artefacts import read_metadata, read_table, write_json, write_table
from r1_searcher.files.store import Store
from r1_searcher.retrieval import build_index
from r1_searcher.rollout import roll_out
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import (
    ANSWER,
    DOCUMENTS,
    END_ANSWER,
    END_DOCUMENTS,
    END_QUERY,
    END_THINK,
    QUERY,
    THINK,
)
from r1_searcher.types.schemas import EVALUATION, PASSAGES
from stages.evaluate.__main__ import main

FINAL = f"So.{END_THINK}\n\n{ANSWER} Trabo {END_ANSWER}"
SEARCH = f"Hm. {QUERY} X1{END_QUERY}"
Says = Callable[[str, int], "str | Response"]  # (question, document blocks shown so far) → all that it writes


def stopped(body: dict[str, Any], text: str) -> Response:
    """Return the text up to the first stop string, which is excluded, as servers do."""
    cut = min((place for place in map(text.find, body.get("stop", [])) if place >= 0), default=len(text))
    return continuation(text[:cut]) if "prompt" in body else completion(text[:cut])


def policy(says: Says) -> ScriptedServer:
    """A server whose model writes ``says``'s text for the question found in its prompt."""

    def answer(body: dict[str, Any], number: int) -> Response:
        messages = body.get("messages", [])
        asked = body.get("prompt") or "".join(message["content"] for message in messages if message["role"] == "user")
        (question, *_) = re.findall(r"Where was X\d born\?|question \d+", asked)
        said = says(question, asked.count(END_DOCUMENTS))
        return stopped(body, said) if isinstance(said, str) else said

    return ScriptedServer(answer)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a benchmark of four questions, an index, and parameters."""
    monkeypatch.chdir(tmp_path)
    serve = {"concurrency": 4, "requests_a_minute": 0, "timeout_seconds": 5, "retries": 0}
    rollout = {"prompt": "instruct", "k": 1, "max_turn_tokens": 50, "max_total_tokens": 900, "max_searches": 3}
    settings = params_with(evaluate__served=serve, **{f"rollout__{key}": value for key, value in rollout.items()})
    Path("params.yaml").write_text(json.dumps(settings.model_dump(mode="json")))
    for name in ("train", "held_out"):
        write_table(f"data/questions/{name}.parquet", questions_table([f"Where was X{n} born?" for n in range(4)]))
    named = [f"X{number}" for number in range(4)]
    found = [{"passage_id": x, "title": x, "text": f"{x} was born in Trabo.", "source": "t"} for x in named]
    write_table("data/corpus/passages.parquet", table := pa.Table.from_pylist(found, PASSAGES))
    build_index(table, settings.index, Path("data/index"), passages.fingerprint("data/corpus"))
    return tmp_path


def run(url: str, name: str = "served", *more: str) -> int:
    arguments = ["run", "--name", name, "--server", url, "--model", "scripted", "--out", f"data/evaluation/{name}"]
    return main([*arguments, *more])


def rows(name: str = "served") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(f"data/evaluation/{name}/held_out.parquet", EVALUATION).to_pylist()
    return rows


def card(name: str = "served") -> dict[str, Any]:
    return dict(read_metadata(f"data/evaluation/{name}/held_out.parquet")["card"])


# --- the modes


def test_a_chat_model_searches_and_is_not_asked_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = policy(lambda question, shown: f"{THINK}\n{SEARCH} and more" if shown == 0 else f" {FINAL} bye")
    with serving(script.app) as url:
        assert run(url) == 0
        assert "8 replies, 80 + 16 tokens" in capsys.readouterr().out
        assert len(script.requests) == 8
        first = script.requests[0]
        assert [message["role"] for message in first["messages"]] == ["system", "user"]
        assert (first["temperature"], first["max_tokens"]) == (0, 50)
        second = next(body for body in script.requests if len(body["messages"]) == 4)
        assert second["messages"][2] == {"role": "assistant", "content": f"\n{SEARCH}"}
        assert second["messages"][3]["content"].startswith(grammar.DOCUMENTS)
        made = Path("data/evaluation/served/held_out.parquet").read_bytes()
        assert run(url) == 0
        assert len(script.requests) == 8 and "0 replies, 0 + 0 tokens" in capsys.readouterr().out
        assert Path("data/evaluation/served/held_out.parquet").read_bytes() == made
    for row in rows():
        assert (row["prediction"], row["em"], row["format_right"], row["num_searches"]) == ("Trabo", 1, True, 1)
        assert row["text"].startswith(f"\n{SEARCH}\n\n{DOCUMENTS}\n") and row["text"].endswith(f"\n {FINAL}")
    assert (card()["policy_model"], card()["engine"], card()["decoding"]) == (
        "scripted",
        "openai-compatible chat",
        "greedy",
    )
    assert url.encode() not in made and b"127.0.0.1" not in made


def test_completions_continue_the_transcript_as_it_stands(project: Path) -> None:
    script = policy(lambda question, shown: SEARCH if shown == 0 else FINAL)
    with serving(script.app) as url:
        assert run(url, "served", "--interface", "completions", "--params", short_prompt()) == 0
    prompts = sorted((body["prompt"] for body in script.requests), key=lambda text: (len(text), text))
    assert prompts[0] == "User: Where was X0 born?\nAssistant: <think>"
    assert prompts[-1].startswith("User: ") and prompts[-1].endswith(f"{END_DOCUMENTS}\n\n")
    assert prompts[-1].count(SEARCH) == 1
    assert [row["em"] for row in rows()] == [1, 1, 1, 1]


def short_prompt() -> str:
    raw = json.loads(Path("params.yaml").read_text())
    raw["rollout"]["prompt"] = "short"
    Path("short.yaml").write_text(json.dumps(raw))
    return "short.yaml"


def test_a_prompt_for_chats_needs_the_chat_interface(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = policy(lambda question, shown: FINAL)
    with serving(script.app) as url:
        assert run(url, "served", "--interface", "completions") == 2
    assert "no chat template" in capsys.readouterr().err and script.requests == []


@pytest.mark.parametrize("begun", ["", ANSWER, f"{END_THINK}\n\n{ANSWER}", f"{THINK}{END_THINK}\n{ANSWER}"])
def test_the_baselines_ask_for_the_answer(project: Path, begun: str) -> None:
    script = policy(lambda question, shown: f"{begun} Trabo {END_ANSWER}")
    with serving(script.app) as url:
        for name, searches in (("no_search", 0), ("plain_rag", 1)):
            assert run(url, name) == 0
            assert [(row["em"], row["format_right"], row["num_searches"]) for row in rows(name)] == [
                (1, True, searches)
            ] * 4
    asked = [body["messages"] for body in script.requests]
    assert all(len(messages) == 2 and messages[1]["content"].endswith(f"\n\n{ASK}") for messages in asked)
    assert sum(END_DOCUMENTS in messages[1]["content"] for messages in asked) == 4
    summary = gather([Path("data/evaluation/no_search"), Path("data/evaluation/plain_rag")])
    assert summary["plain_rag"]["held_out"]["em"] == 1


def test_ircot_takes_the_first_sentence_and_drops_the_rest(project: Path) -> None:
    """Also if the reply ends without a full stop: a message's end is a line's end."""
    replies = ["Dr. X comes first. Then Y. Then Z.", "Then Y", FINAL.removeprefix("So.")]
    script = policy(lambda question, shown: replies[shown - 1])
    with serving(script.app) as url:
        assert run(url, "ircot", "--mode", "ircot") == 0
    assert len(script.requests) == 12
    for row in rows("ircot"):
        assert (row["em"], row["num_searches"], row["format_right"]) == (1, 3, True)
        assert f"Dr. X comes first.{QUERY} Dr. X comes first.{END_QUERY}" in row["text"]
        assert "Then Z" not in row["text"] and f"Then Y\n{QUERY} Then Y{END_QUERY}" in row["text"]


@pytest.mark.parametrize("interface", ["chat", "completions"])
@pytest.mark.parametrize(
    ("said", "reason", "prediction"),
    [
        (f"So.{END_THINK}\n\n{ANSWER} Trabo", "end_of_text", None),  # no tag that ends it
        (f"So. {ANSWER} Trabo {END_ANSWER}", "answer", "Trabo"),
        (f"{QUERY} Ada", "end_of_text", None),
        (f"{QUERY} ' {END_QUERY}", "empty_query", None),
        ("", "end_of_text", None),
        ("中", "end_of_text", None),
        (f"{grammar.DOCUMENTS} mine {END_DOCUMENTS}{FINAL}", "answer", "Trabo"),
        ("a " * 2000, "length_limit", None),
    ],
)
def test_malformed_replies_are_format_violations(
    project: Path, interface: str, said: str, reason: str, prediction: str | None
) -> None:
    script = policy(lambda question, shown: said)
    with serving(script.app) as url:
        assert run(url, "served", "--interface", interface, "--params", short_prompt()) == 0
    for row in rows():
        assert (row["finish_reason"], row["prediction"], row["format_right"]) == (reason, prediction, False)


def test_a_reply_that_the_server_cut_off(project: Path) -> None:
    script = policy(lambda question, shown: completion("I wonder", finish_reason="length"))
    with serving(script.app) as url:
        assert run(url) == 0
    assert {row["finish_reason"] for row in rows()} == {"turn_limit"}


# --- what can go wrong


def test_a_server_that_fails_in_the_middle_stops_with_one_line_and_goes_on_later(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = True

    def says(question: str, shown: int) -> str | Response:
        if broken and "X2" in question and shown:
            return fault(500, "out of memory")
        return FINAL if shown else SEARCH

    script = policy(says)
    with serving(script.app) as url:
        assert run(url) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "1 of 4 requests" in error and "out of memory" in error
        assert not Path("data/evaluation/served").exists()
        asked, broken = len(script.requests), False
        assert run(url) == 0
        assert asked == 8 and len(script.requests) == 9  # only the failed one
    assert [row["em"] for row in rows()] == [1, 1, 1, 1]


def test_a_conversation_that_is_too_long_for_the_model_is_one_questions_misfortune(project: Path) -> None:
    too_long = "This model's maximum context length is 8192 tokens"
    script = policy(lambda question, shown: fault(400, too_long) if "X1" in question else FINAL)
    with serving(script.app) as url:
        assert run(url) == 0
    assert [row["finish_reason"] for row in rows()] == ["answer", "length_limit", "answer", "answer"]


def test_what_the_command_line_can_get_wrong(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        assert run(nobody) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "4 of 4 requests" in error
    assert main(["run", "--name", "x", "--server", nobody, "--out", "x"]) == 2
    assert "add --model NAME" in capsys.readouterr().err
    assert run(nobody, "x", "--key-variable", "NO_SUCH_API_KEY") == 2
    assert "NO_SUCH_API_KEY is not set" in capsys.readouterr().err


def test_a_key_is_sent_and_stays_out_of_everything(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-secret")
    script = policy(lambda question, shown: FINAL)
    with serving(script.app) as url:
        assert run(url, "served", "--key-variable", "SOME_API_KEY") == 0
    assert {body["key"] for body in script.requests} == {"Bearer sk-secret"}
    files = [file for file in project.rglob("*") if file.is_file()]
    assert len(files) > 5 and not any(b"sk-secret" in file.read_bytes() for file in files)


# --- parameters


def test_policies_of_the_parameters(project: Path) -> None:
    script = policy(lambda question, shown: FINAL)
    with serving(script.app) as url:
        raw = json.loads(Path("params.yaml").read_text())
        raw["evaluate"]["policies"] = {"mine": {"server": url, "model": "m"}}
        Path("params.yaml").write_text(json.dumps(raw))
        assert main(["all"]) == 0
    assert [row["em"] for row in rows("mine")] == [1, 1, 1, 1]


def test_a_server_that_fails_does_not_cost_the_other_policies_answers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ScriptedEngine({f"Where was X{number} born?": FINAL for number in range(4)})
    monkeypatch.setattr(r1_searcher.rollout, "load_engine", lambda policy, rollout: engine)
    write_json("data/local/manifest.json", {"sha256": "f" * 64, "step": 1})
    broken = True
    script = policy(lambda question, shown: fault(500, "oops") if broken else FINAL)
    with serving(script.app) as url:
        raw = json.loads(Path(short_prompt()).read_text())
        raw["evaluate"]["policies"] = {"local": "data/local", "mine": {"server": url, "model": "m"}}
        Path("params.yaml").write_text(json.dumps(raw))
        assert main(["all"]) == 2
        assert engine.started == [4] and not Path("data/evaluation").exists()
        broken = False
        assert main(["all"]) == 0
    assert engine.started == [4]
    assert [row["em"] for name in ("local", "mine") for row in rows(name)] == [1] * 8
    assert set(gather([Path("data/evaluation/local"), Path("data/evaluation/mine")])) == {"local", "mine"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"server": "http://h/v1"}, r"evaluate\.policies\.x\.served\.model: Field required"),
        ({"server": "u", "modle": "m"}, r"evaluate\.policies\.x\.served\.modle: unknown parameter.*'model'"),
        ({"server": "u", "model": "m", "interface": "grpc"}, r"interface: .*'chat' or 'completions', got 'grpc'"),
        (3, r"evaluate\.policies\.x"),
    ],
)
def test_a_wrong_policy_is_named(given: Any, message: str) -> None:
    raw = params_with().model_dump(mode="json")
    raw["evaluate"]["policies"] = {"x": given}
    with pytest.raises(PipelineError, match=message):
        contract.check(raw)


# --- the engine beside the scripted one

SCRIPTS = [
    FINAL,
    SEARCH + FINAL,
    SEARCH * 2 + FINAL,
    SEARCH * 4,
    f"I give up{END}",
    f"{SEARCH}{QUERY} please fail{END_QUERY}",
    f"{QUERY} '' {END_QUERY}",
    f"<|end_of_query <|begin {QUERY} Ada{END_QUERY}</answe{END}",
    f"{ANSWER} no end{END}",
]


class Script:
    """A fake server that continues texts: each question's script, from where it was stopped."""

    def __init__(self, scripts: dict[str, str]) -> None:
        self.left = dict(scripts)

    def __call__(self, question: str, shown: int) -> str:
        text, _, self.left[question] = self.left[question].partition(END_QUERY)
        return text + END_QUERY * bool(self.left[question] or not text.endswith((END, END_ANSWER)))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Sequence[str]], ServedEngine]]:
    """An engine that continues texts on a server of scripts."""
    import contextlib

    with contextlib.ExitStack() as opened:

        def made(scripts: Sequence[str]) -> ServedEngine:
            script = Script({f"question {number}": text for number, text in enumerate(scripts)})
            url = opened.enter_context(serving(policy(lambda *given: script(*given).split(END)[0]).app))
            named = contract.ServedPolicy(server=url, model="m", interface="completions")
            how = contract.Serving(concurrency=4, requests_a_minute=0, timeout_seconds=5, retries=0)
            server = opened.enter_context(ChatServer(how.of(named), where="test"))
            return ServedEngine(named, server, Store(tmp_path / "store"))

        yield made


def test_it_does_what_a_local_engine_does(serve: Callable[[Sequence[str]], ServedEngine]) -> None:
    """The same transcripts, ends and searches as with the engine whose tokens are characters."""
    rollout = params_with(rollout__max_turn_tokens=400, rollout__max_total_tokens=4000).rollout
    questions = questions_table([f"question {number}" for number in range(len(SCRIPTS))])
    local = ScriptedEngine({f"question {number}": text for number, text in enumerate(SCRIPTS)})
    engine = serve(SCRIPTS)
    made = [
        roll_out(one, ScriptedRetriever(), questions, rollout, samples=1, seed=0, greedy=True)[0]
        for one in (engine, local)
    ]
    check_rollouts(made[0], engine, rollout, end_ids=[0])
    besides = ["token_ids", "token_source", "policy_logprobs"]
    assert made[0].drop_columns(besides).to_pylist() == made[1].drop_columns(besides).to_pylist()


@pytest.mark.parametrize(
    "text", ["", "a", "  two  words\n\n", "Zoë’s 中文 <|begin_of_query|> x", "supercalifragilistic"]
)
def test_pieces_are_the_text(serve: Callable[[Sequence[str]], ServedEngine], text: str) -> None:
    engine = serve([])
    assert engine.decode(engine.encode(text)) == text
    assert 0 not in engine.encode(text)
