"""A retriever behind HTTP equals the retriever: same passages, same fingerprint, and no trajectory lost to a
restart."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
import search_servers
import yaml
from search_servers import Command, in_thread, settings_for
from tiny_policy import ScriptedEngine, ScriptedRetriever, params_with, questions_table, rollout_params

from r1_searcher.errors import PipelineError
from r1_searcher.files.store import ROOT_VARIABLE
from r1_searcher.params import SHIPPED, Params, Service
from r1_searcher.retrieval import build_index, identify, open_index, open_retriever
from r1_searcher.retrieval.remote import messages
from r1_searcher.retrieval.remote.client import ServiceRetriever
from r1_searcher.retrieval.service import server
from r1_searcher.rollout import roll_out
from r1_searcher.transcripts import grammar
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Passage, Retriever, RetrieverError, search_each
from stages.index.__main__ import main

ODD = "Ünï “quoted”\n\tline \U0001f600"
WORDS = "ada rome trabo harbor film river kolm".split()


def build(folder: Path, corpus: str = "corpus-1", more: str = "") -> Path:
    rows = [
        {
            "passage_id": f"p{number}",
            "title": f"Title {word}",
            "text": f"{word} {' '.join(WORDS[:number])}. {more}{ODD}",
        }
        for number, word in enumerate(WORDS)
    ]
    table = pa.Table.from_pylist([{**row, "source": "test"} for row in rows], schema=schemas.PASSAGES)
    build_index(table, params_with().index, folder, corpus)
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("service") / "index")


@pytest.fixture(scope="module")
def served(index: Path) -> Iterator[Command]:
    with search_servers.command(index, "--max-queries", "5120") as command:
        yield command


def of_service(service: Service) -> Params:
    return params_with(
        retriever__kind="service", retriever__service=service.model_dump(), retriever__searches__mode="live"
    )


def test_what_the_service_finds_is_what_the_index_finds(index: Path, served: Command) -> None:
    local, settings = open_index(index), of_service(settings_for(served.url))
    remote = open_retriever(settings, index=Path("nowhere"), corpus=Path("nowhere"))
    queries = ["ada", "film river", "nothing of it", ODD, "ada", "rome \ud800 trabo", ""]
    for k in (1, 3, 100):
        assert remote.search(queries, k) == local.search(queries, k)
    assert remote.search([], 3) == []
    bm25 = identify(params_with(), index=index)
    found = identify(settings, index=Path("nowhere"))
    assert found.fingerprint == remote.fingerprint == local.fingerprint == bm25.fingerprint
    assert found.corpus == "corpus-1" and found.description == f"{bm25.description}; as a service"
    with pytest.raises(PipelineError, match=r"retriever\.service: the service finds at most 100 passages, not 101"):
        remote.search(["ada"], 101)


def test_search_r1s_client_is_understood(index: Path, served: Command) -> None:
    """It posts and reads as in search_r1/llm_agent/generation.py: the first line is the title, the rest the text."""
    payload = {"queries": ["ada", "film river"], "topk": 2, "return_scores": True}
    [found, other] = httpx.post(f"{served.url}/retrieve", json=payload).json()["result"]
    [wanted, _] = open_index(index).search(["ada", "film river"], 2)
    assert len(found) == len(other) == 2
    for entry, passage in zip(found, wanted, strict=True):
        title, text = entry["document"]["contents"].split("\n", 1)
        assert (title, text, entry["score"]) == (f'"{passage.title}"', passage.text, passage.score)
    plain = httpx.post(f"{served.url}/retrieve", json={"queries": ["ada"]}).json()["result"]
    assert [document["id"] for document in plain[0]] == [
        passage.passage_id for passage in open_index(index).search(["ada"], 3)[0]
    ]


def test_r1_searchers_client_is_understood(index: Path, served: Command) -> None:
    """It posts and reads as in evaluation/eval_search_loacl.py; later ones also send reasonings and sources."""
    payload = {"queries": ["ada", "nothing of it"], "k": 2, "prev_reasonings": ["", ""], "sources": ["rag", "rag"]}
    answer = httpx.post(f"{served.url}/queries", json=payload).json()
    shown = [[re.sub(r"^\d+\s+", "", line) for line in lines] for lines in answer["answers"]]
    wanted = open_index(index).search(["ada"], 2)[0]
    assert shown == [[f"{passage.title}   {' '.join(passage.text.split())}" for passage in wanted], []]
    assert answer["queries"] == payload["queries"]


@pytest.mark.parametrize(
    ("path", "body", "status", "line"),
    [
        ("/search", b"{", 422, "body.1: JSON decode error"),
        ("/search", b'{"queries": "ada", "k": 1}', 422, "body.queries: Input should be a valid list"),
        ("/search", b'{"queries": [1], "k": 1}', 422, "body.queries.0: Input should be a valid string"),
        ("/search", b'{"queries": [], "k": 0}', 422, "k must be 1 to 100, got 0"),
        ("/search", b'{"queries": ["ada"], "k": 1, "fingerprint": "other"}', 409, "this is retriever "),
        ("/retrieve", b'{"topk": 3}', 422, "body.queries: Field required"),
        ("/retrieve", b'{"queries": ["ada"], "topk": 101}', 422, "k must be 1 to 100, got 101"),
        ("/queries", b'{"queries": ["' + b"a" * 10_001 + b'"]}', 422, "at most 10000 characters, got 10001"),
        ("/queries", b'{"queries": [' + b",".join([b'"a"'] * 5121) + b"]}", 422, "at most 5120 queries"),
        ("/queries", b" " * 10_000_001, 413, "at most 10000000 bytes"),
    ],
)
def test_a_request_that_is_none_is_refused_in_one_line(
    served: Command, path: str, body: bytes, status: int, line: str
) -> None:
    answer = httpx.post(served.url + path, content=body, headers={"Content-Type": "application/json"})
    detail = answer.json()["detail"]
    assert (answer.status_code, line in detail) == (status, True), detail
    assert "\n" not in detail and len(detail) < 200


def test_a_body_of_unknown_length_is_cut_off_as_well(served: Command) -> None:
    parts = (b" " * 1_000_000 for _ in range(11))
    answer = httpx.post(f"{served.url}/search", content=parts, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_its_searches_are_recorded_and_replayed_without_it(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user has it: a command with parameters, with and without the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "store"))
    with in_thread(open_index(index)) as (url, _):
        settings = params_with(retriever__kind="service", retriever__service=settings_for(url).model_dump())
        assert settings.retriever.searches.mode == "auto"
        Path("params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
        assert main(["search", "ada", "-k", "1"]) == 0
    shown = capsys.readouterr().out
    assert "[p0] Title ada: ada" in shown
    replay = settings.retriever.searches.model_copy(update={"mode": "replay"})
    raw = settings.model_copy(update={"retriever": settings.retriever.model_copy(update={"searches": replay})})
    Path("params.yaml").write_text(yaml.safe_dump(raw.model_dump(mode="json")))
    assert main(["search", "ada", "-k", "1"]) == 0
    assert capsys.readouterr().out == shown
    assert identify(raw, index=Path("nowhere")).fingerprint == open_index(index).fingerprint


def test_health_and_metrics(served: Command) -> None:
    health = httpx.get(f"{served.url}/health").json()
    assert (health["status"], health["kind"], health["waiting"]) == ("ok", "bm25", 0)
    before = httpx.get(f"{served.url}/metrics").text
    httpx.post(f"{served.url}/search", json={"queries": ["ada", "rome"], "k": 1})
    httpx.get(f"{served.url}/nowhere")
    after = httpx.get(f"{served.url}/metrics").text

    def value(text: str, name: str) -> float:
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name)]
        return float(lines[0][1]) if lines else 0.0

    assert value(after, "retriever_queries_total") == value(before, "retriever_queries_total") + 2
    ok = 'retriever_requests_total{path="/search",status="200"}'
    assert value(after, ok) == value(before, ok) + 1
    assert value(after, 'retriever_requests_total{path="other",status="404"}') >= 1
    assert f'fingerprint="{health["fingerprint"]}"' in after and "process_resident_memory_bytes" in after


def test_a_taken_port_is_one_line_and_sigterm_ends_with_0(index: Path) -> None:
    with search_servers.command(index) as first:
        arguments = [sys.executable, "-m", "stages.index", "serve", "--index", str(index), "--port", str(first.port)]
        second = subprocess.run(arguments, cwd=search_servers.ROOT, capture_output=True, text=True, check=False)
        assert second.returncode == 2 and second.stdout == ""
        assert second.stderr == (
            f"error: 127.0.0.1:{first.port}: cannot listen here: Address already in use "
            "(choose another --port or --host)\n"
        )
        assert first.end() == 0


# --- a restart in the middle ------------------------------------------------------------------------------------


def script(number: int) -> str:
    searches = [f"step.{grammar.QUERY} {WORDS[(number + turn) % 7]} ada{grammar.END_QUERY}" for turn in range(3)]
    return "".join(searches) + f" so.{grammar.END_THINK}\n\n{grammar.ANSWER} Trabo{grammar.END_ANSWER}"


def played(retriever: Retriever) -> pa.Table:
    questions = [f"Question {number}?" for number in range(8)]
    engine = ScriptedEngine({question: script(number) for number, question in enumerate(questions)})
    rollout = rollout_params(max_turn_tokens=90, max_total_tokens=4000, max_passage_tokens=60)
    return roll_out(engine, retriever, questions_table(questions), rollout, samples=2, seed=0)[0]


class Interrupted:
    """A retriever during whose second search ``happen`` begins."""

    def __init__(self, retriever: Retriever, happen: threading.Thread, after: float = 0.0) -> None:
        self.retriever, self.happen, self.after, self.searches = retriever, happen, after, 0
        self.fingerprint = retriever.fingerprint

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.searches += 1
        if self.searches == 2:
            self.happen.start()
            time.sleep(self.after)
        return self.retriever.search(queries, k)


def test_a_restart_in_the_middle_of_a_rollout_loses_no_trajectory(index: Path) -> None:
    with search_servers.command(index) as command:
        command.kill()
        command.start()

        def restart() -> None:
            command.kill()
            time.sleep(0.5)
            command.start()

        happen = threading.Thread(target=restart)
        remote = open_retriever(of_service(settings_for(command.url)), index=Path("nowhere"))
        found = played(Interrupted(remote, happen, after=0.2))
        happen.join()
    assert found.equals(played(open_index(index)))
    assert set(found["finish_reason"].to_pylist()) == {"answer"}
    assert [len(turns) for turns in found["turns"].to_pylist()] == [3] * 16


def test_another_retriever_after_a_restart_ends_the_run(index: Path, tmp_path: Path) -> None:
    with search_servers.command(index) as command:
        remote = ServiceRetriever(settings_for(command.url))
        command.kill()
        command.index = build(tmp_path / "other", "corpus-2", "else ")
        command.start()
        with pytest.raises(PipelineError, match=r"now serves another retriever: HTTP 409: this is retriever [0-9a-f]+"):
            remote.search(["ada"], 1)
        wanted = settings_for(command.url, fingerprint=remote.fingerprint)
        with pytest.raises(PipelineError, match=rf"service\.fingerprint: .* not {remote.fingerprint[:12]}"):
            identify(of_service(wanted), index=index)
        with pytest.raises(PipelineError, match=rf"changed since this run began: .* longer {remote.fingerprint[:12]}"):
            open_retriever(of_service(settings_for(command.url)), index=index, fingerprint=remote.fingerprint)


def test_a_service_that_stays_away_costs_its_searches_and_one_wait() -> None:
    with in_thread(ScriptedRetriever()) as (url, _):
        remote = ServiceRetriever(settings_for(url, wait=0.5))
    began = time.monotonic()
    found = search_each(remote, ["ada", "rome"], 1)
    assert [type(entry) for entry in found] == [RetrieverError] * 2 and "refused" in str(found[0])
    assert 0.4 < time.monotonic() - began < 5
    began = time.monotonic()
    assert len(search_each(remote, ["ada", "rome"], 1)) == 2
    assert time.monotonic() - began < 0.3
    with pytest.raises(PipelineError, match=r"no retrieval service answers at http://127.0.0.1:\d+: .*refused"):
        ServiceRetriever(settings_for(url, wait=0.0))


# --- overload and faults ----------------------------------------------------------------------------------------


class Slow(ScriptedRetriever):
    """Takes some time for every call."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        time.sleep(self.seconds)
        return super().search(queries, k)


def test_too_much_is_refused_and_none_hangs() -> None:
    retriever = Slow(0.1)
    with in_thread(retriever, server.Settings(max_batch=4, max_waiting=8)) as (url, _):

        def ask(number: int) -> httpx.Response:
            return httpx.post(f"{url}/search", json={"queries": [f"query {number}"], "k": 1}, timeout=20)

        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(ask, range(40)))
        refused = [answer for answer in answers if answer.status_code == 503]
        good = [answer for answer in answers if answer.status_code == 200]
        assert len(refused) + len(good) == 40 and refused and len(good) >= 9
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert max(map(len, retriever.calls)) == 4  # concurrent requests were searched together
        for answer in good:  # and each got its own result
            text = answer.json()["result"][0][0][2]
            assert text.startswith("query ") and text.endswith("was born in Trabo.")
        # The client retries, so that nothing is lost.
        with ThreadPoolExecutor(20) as pool:
            remotes = [ServiceRetriever(settings_for(url)) for _ in range(20)]
            found = list(pool.map(lambda pair: pair[1].search([f"again {pair[0]}"], 1), enumerate(remotes)))
        assert [entry[0][0].text for entry in found] == [f"again {number} was born in Trabo." for number in range(20)]


def test_what_waits_too_long_is_refused() -> None:
    with in_thread(Slow(2.0), server.Settings(max_batch=1, max_wait=0.5)) as (url, _):  # room for a busy machine

        def ask(number: int) -> int:
            return httpx.post(f"{url}/search", json={"queries": [str(number)], "k": 1}, timeout=20).status_code

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(ask, range(4))) == [200, 503, 503, 503]


def test_running_requests_are_finished_before_it_stops() -> None:
    with in_thread(Slow(0.5)) as (url, made), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{url}/search", json={"queries": ["ada"], "k": 1})
        time.sleep(0.2)
        made.should_exit = True
        assert answer.result(10).status_code == 200


class Faulty(ScriptedRetriever):
    """Fails on "fail", hangs on "stop", has a bug at "bug"."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        if any("stop" in query for query in queries):
            raise PipelineError("the budget is used up", where="somewhere")
        if any("bug" in query for query in queries):
            raise KeyError("a bug")
        return super().search(queries, k)


def test_a_failed_query_does_not_spoil_its_neighbours() -> None:
    with in_thread(Faulty()) as (url, _):
        remote = ServiceRetriever(settings_for(url))
        for bad, line in {"fail": "the search server is down", "bug": "HTTP 500: Internal Server Error"}.items():
            good, lost, more = search_each(remote, ["ada", bad, "rome"], 1)
            assert isinstance(good, list) and isinstance(more, list) and line in str(lost)
        with pytest.raises(PipelineError, match=r"refuses: HTTP 500: somewhere: the budget is used up"):
            remote.search(["ada", "stop"], 1)
        for path in ("/retrieve", "/queries"):
            answer = httpx.post(url + path, json={"queries": ["ada", "fail"]})
            assert answer.status_code == 502 and "the search server is down" in answer.json()["detail"]


def test_as_many_queries_as_the_option_says(served: Command) -> None:
    """Search-R1 sends those of a whole batch of trajectories at once: 1,024 × 5."""
    queries = [f"word {number}" for number in range(5120)]
    answer = httpx.post(f"{served.url}/retrieve", json={"queries": queries, "topk": 1}, timeout=60)
    assert answer.status_code == 200 and len(answer.json()["result"]) == 5120


def test_limits_grow_with_the_queries() -> None:
    assert messages.Limits.for_queries(4096) == messages.Limits()
    assert messages.Limits.for_queries(3) == messages.Limits(max_queries=3)
    wide = messages.Limits.for_queries(8192)
    assert wide.fault(["x"] * 8192, 10) is None and wide.max_bytes == 16_000_000


def test_requests_are_cut_to_what_the_server_takes() -> None:
    limits = messages.Limits(max_queries=3, max_characters=40, max_bytes=400)
    retriever = ScriptedRetriever()
    with in_thread(retriever, server.Settings(limits=limits)) as (url, made):
        remote = ServiceRetriever(settings_for(url))
        queries = [f"query {number}" for number in range(8)] + ["é" * 40, "x" * 41]
        found = search_each(remote, queries, 1)
        assert len(made.server_state.connections) == 1  # one connection carried them all
    assert [entry[0].text for entry in found[:9] if isinstance(entry, list)] == [
        f"{query} was born in Trabo." for query in queries[:9]
    ]
    assert "41 characters, too many" in str(found[9])
    assert [len(call) for call in retriever.calls] == [3, 3, 2, 1]


def test_the_servers_own_advice_is_waited_for() -> None:
    """Retry-After plus jitter, so that not all clients retry at once."""
    slept: list[float] = []
    with in_thread(ScriptedRetriever()) as (url, _):
        remote = ServiceRetriever(settings_for(url), sleep=slept.append)
        answers = [httpx.Response(503, headers={"Retry-After": "7"}), httpx.Response(502), None]
        real = remote._connection._http

        def answer(request: httpx.Request) -> httpx.Response:
            return answers.pop(0) or real.post(f"{url}/search", content=request.content, headers=request.headers)

        remote._connection._http = httpx.Client(transport=httpx.MockTransport(answer))
        assert remote.search(["ada"], 1)[0][0].text == "ada was born in Trabo."
    assert len(slept) == 2 and 7 < slept[0] < 10 and 0 < slept[1] <= 2


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://somewhere"])
def test_an_address_that_is_none_is_one_line(url: str) -> None:
    with pytest.raises(PipelineError, match=r"params\.yaml, retriever\.service\.url: not an address"):
        ServiceRetriever(settings_for(url))


def test_it_does_not_serve_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["serve", "--kind", "service", "--params", str(SHIPPED)]) == 2
    assert "a service cannot serve itself (name another kind: --kind bm25)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("--port", "70000", "must be at most 65535, got 70000"),  # the system would take it for 4464
        ("--port", "-1", "must be at least 0, got -1"),
        ("--port", "http", "must be a whole number, got 'http'"),
        ("--max-batch", "0", "must be at least 1, got 0"),
        ("--max-waiting", "many", "must be a whole number, got 'many'"),
        ("--max-queries", "0", "must be at least 1, got 0"),
        ("--max-wait", "nan", "must be seconds, 0 or more, got 'nan'"),
        ("--grace", "-1", "must be seconds, 0 or more, got '-1'"),
    ],
)
def test_a_wrong_option_is_one_line(capsys: pytest.CaptureFixture[str], option: str, value: str, line: str) -> None:
    assert main(["serve", f"{option}={value}"]) == 2
    assert capsys.readouterr().err == f"error: {option}: {line}\n"
