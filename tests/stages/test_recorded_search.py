"""From outage to replay, with a real server, a real engine and files: failed searches are lost and counted, and
recorded ones are evaluated again without any network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_web
import pyarrow as pa
import pytest
import torch
import yaml
from tiny_policy import ScriptedEngine, params_with, questions_table, rollout_params
from tiny_project import write_policy_that_searches

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_metadata, read_table, write_json, write_table
from r1_searcher.files.store import ROOT_VARIABLE
from r1_searcher.retrieval import open_retriever
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.rollout import roll_out
from r1_searcher.rollout.outages import check_lost
from r1_searcher.training import figures
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Retriever
from stages.evaluate.__main__ import main as evaluate
from stages.index.__main__ import main as index

QUESTIONS = ["Who was Ada?", "Where is Trabo?", "What is Rome?", "Who made Silent Harbor?"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a random policy, questions, and its own store; no index or anything else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv("TAVILY_API_KEY", fake_web.KEY)
    return tmp_path


@pytest.fixture
def web() -> Iterator[fake_web.Web]:
    with fake_web.serve() as web:
        yield web


def online(base: str, **changes: Any) -> params.Params:
    """Return parameters of a run that searches the web at ``base``."""
    quick = {"backoff": 0.01, "calls_a_second": 1000.0, "attempts": 3, "allow_private_addresses": True}
    return params_with(
        **{
            "threads": 1,
            "retriever__kind": "online",
            "retriever__online": {
                **params_with().retriever.online.model_dump(), "engine": "tavily", "url": f"{base}/tavily", **quick
            },
            "rollout": rollout_params(max_turn_tokens=90, max_total_tokens=2000, max_passage_tokens=60).model_dump(),
            **changes,
        }
    )  # fmt: skip


def search(query: str) -> str:
    return f"I look it up.{grammar.QUERY} {query}{grammar.END_QUERY}"


ANSWER = f" so.{grammar.END_THINK}\n\n{grammar.ANSWER} Trabo{grammar.END_ANSWER}"


def played(settings: params.Params, web: fake_web.Web) -> pa.Table:
    """Four trajectories of two searches each: one query succeeds at the third attempt, one never."""
    web.faults["flaky"] = ["500", "broken"]
    web.faults["gone"] = ["503"] * 99
    scripts = {
        question: search(f"about {number}") + search(query) + ANSWER
        for number, (question, query) in enumerate(zip(QUESTIONS, ["flaky", "gone", "rome", "ada"], strict=True))
    }
    retriever = open_retriever(settings, index=Path("nowhere"))
    return roll_out(
        ScriptedEngine(scripts), retriever, questions_table(QUESTIONS), settings.rollout, samples=1, seed=0
    )[0]


def test_an_outage_costs_its_own_trajectory_and_is_counted(place: Path, web: fake_web.Web) -> None:
    settings = online(web.base)
    table = played(settings, web)
    rows = table.to_pylist()
    assert [row["finish_reason"] for row in rows] == ["answer", "retriever_error", "answer", "answer"]
    assert [len(turn["passage_ids"]) for turn in rows[1]["turns"]] == [2, 0]
    assert rows[1]["turns"][1]["error"].startswith("tavily: HTTP 503")
    assert rows[1]["text"].count(grammar.DOCUMENTS) == 1  # no empty block stands for what was not found
    asked = [call["query"] for call in web.asked]
    assert (asked.count("flaky"), asked.count("gone"), len(asked)) == (3, 3, 4 + 3 + 3 + 2)

    rewards = reward_table(table, settings.reward, 2)
    assert rewards["counted"].to_pylist() == [True, False, True, True]
    assert figures.means(rewards)["error_share"] == 0.25
    check_lost(table, 0.25)
    with pytest.raises(PipelineError, match=r"failed on 1 of 4 trajectories \(allowed: 20%\): tavily: HTTP 503"):
        check_lost(table, settings.rollout.max_error_share)


def test_each_run_has_a_budget_and_a_resumed_one_goes_on_with_what_is_left(place: Path, web: fake_web.Web) -> None:
    first = online(web.base, seed=0)
    small = first.retriever.online.model_copy(update={"max_calls": 3})

    def opened(run: params.Params) -> Retriever:
        retriever = run.retriever.model_copy(update={"online": small})
        return open_retriever(run.model_copy(update={"retriever": retriever}), index=Path("nowhere"))

    opened(first).search(["a", "b", "c"], 1)
    with pytest.raises(PipelineError, match=r"this run's budget of 3 calls is used up"):
        opened(first).search(["d"], 1)  # restarted
    other = first.model_copy(update={"seed": 1})
    assert len(opened(other).search(["a", "b", "c", "d", "e"], 1)) == 5  # three are in the record: they cost nothing
    with pytest.raises(PipelineError, match=r"this run's budget of 3 calls is used up"):
        opened(other.model_copy(update={"threads": 7})).search(["f", "g"], 1)  # the same run, on more threads
    assert len(opened(first.model_copy(update={"profile": "smoke"})).search(["h"], 1)) == 1
    assert len(web.asked) == 3 + 2 + 1 + 1


def test_after_the_outage_only_what_is_missing_is_asked(place: Path, web: fake_web.Web) -> None:
    settings = online(web.base)
    first = played(settings, web).to_pylist()
    web.asked.clear()
    second = played(settings, web).to_pylist()
    assert {call["query"] for call in web.asked} == {"gone"}
    assert second == first  # a lost one is lost again, and the others are unchanged


def make_policy() -> None:
    write_policy_that_searches(Path("policy"))
    write_json("policy/manifest.json", {"sha256": "f" * 64, "step": 0})
    write_table("questions/held_out.parquet", questions_table(QUESTIONS))


def evaluated(settings: params.Params, out: str, *more: str) -> int:
    """Run ``python -m stages.evaluate run`` of a policy that searches, on files."""
    Path("params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    threads = torch.get_num_threads()
    files = ["--policy", "policy", "--questions", "questions", "--index", "nowhere", "--corpus", "nowhere"]
    try:
        return evaluate(["run", "--name", "stage2", *files, "--out", out, *more])
    finally:
        torch.set_num_threads(threads)


def replayed(settings: params.Params, **changes: Any) -> params.Params:
    searches = settings.retriever.searches.model_copy(update={"mode": "replay", **changes})
    return settings.model_copy(update={"retriever": settings.retriever.model_copy(update={"searches": searches})})


def test_a_recorded_run_is_evaluated_again_without_the_web(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_policy()
    with fake_web.serve() as web:
        settings = online(web.base)
        modes = ("search", "plain_rag")
        for name in modes:
            assert evaluated(settings, name, "--mode", name) == 0
        asked = len({call["query"] for call in web.asked})
        assert asked == len(web.asked) >= 4  # the baseline searches for the questions, once
    monkeypatch.delenv("TAVILY_API_KEY")

    for name in modes:
        assert evaluated(replayed(settings), f"{name}-again", "--mode", name) == 0
        files = [Path(folder) / "held_out.parquet" for folder in (name, f"{name}-again")]
        assert files[0].read_bytes() == files[1].read_bytes()
    card = read_metadata(files[1])["card"]
    assert card["corpus"] == "the web" and card["retriever"].startswith("tavily at http://127.0.0.1")
    shown = read_table(files[1])["text"].to_pylist()
    assert all(grammar.DOCUMENTS in text for text in shown)

    moved = Path("inputs/searches")
    moved.mkdir(parents=True)
    Path("store/searches/searches.sqlite").rename(moved / "searches.sqlite")
    assert evaluated(replayed(settings, folder=str(moved)), "moved", "--mode", "plain_rag") == 0
    capsys.readouterr()

    write_table("questions/held_out.parquet", questions_table(["Who was never asked for?"]))
    assert evaluated(replayed(settings, folder=str(moved)), "miss", "--mode", "plain_rag") == 2
    line = capsys.readouterr().err
    k = settings.evaluate.k
    assert f"no recorded search for 'Who was never asked for?' with k = {k}" in line and line.count("\n") == 1
    assert not Path("miss").exists()


def test_an_evaluation_outlives_a_failed_search_and_the_next_one_goes_on(
    place: Path, web: fake_web.Web, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = online(web.base)
    make_policy()
    web.faults.update({question: ["503"] * 3 for question in QUESTIONS[1:3]})
    assert evaluated(settings, "out", "--mode", "plain_rag") == 2
    line = capsys.readouterr().err
    assert "failed on 2 of 4 questions (allowed: 1): tavily: HTTP 503" in line and not Path("out").exists()
    web.faults.update({QUESTIONS[2]: ["503"] * 3})
    web.asked.clear()
    assert evaluated(settings, "out", "--mode", "plain_rag") == 0
    assert {call["query"] for call in web.asked} == {*QUESTIONS[1:3]}
    rows = read_table("out/held_out.parquet").to_pylist()
    assert [row["finish_reason"] == "retriever_error" for row in rows] == [False, False, True, False]
    assert (rows[2]["prediction"], rows[2]["em"], rows[2]["cover_em_contiguous"]) == (None, 0, 0)
    web.asked.clear()
    for out in ("again", "stored"):  # answered, then from the store: the same bytes
        assert evaluated(settings, out, "--mode", "plain_rag") == 0
    assert [call["query"] for call in web.asked] == [QUESTIONS[2]]
    assert "retriever_error" not in read_table("again/held_out.parquet")["finish_reason"].to_pylist()
    assert Path("again/held_out.parquet").read_bytes() == Path("stored/held_out.parquet").read_bytes()


def test_the_command_line_asks_the_web_and_lists_what_is_recorded(
    place: Path, web: fake_web.Web, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = online(web.base)
    Path("params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    for _ in range(2):
        assert index(["search", "where was Ada born", "-k", "1"]) == 0
        assert "page/ada#1] Ada: " in capsys.readouterr().out
    assert len(web.asked) == 1
    web.faults["gone"] = ["503"] * 3
    assert index(["search", "gone"]) == 2
    assert "error: the search failed: tavily: HTTP 503" in capsys.readouterr().err
    assert index(["searches"]) == 0
    assert (
        "online: tavily at http://127.0.0.1" in (shown := capsys.readouterr().out) and "; 1 searches, 4 calls" in shown
    )
    assert f"{settings.profile}, seed {settings.seed}: 4 calls" in shown
