"""The tool open behind each retriever: windows of a local index, of a web page, and of a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_web
import pyarrow as pa
import pytest
from dense_indexes import build, tiny, write_corpus
from tiny_models import random_cross_encoder, random_encoder
from tiny_policy import END, ScriptedEngine, check_rollouts, questions_table, rollout_params

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files.store import ROOT_VARIABLE
from r1_searcher.retrieval import open_retriever
from r1_searcher.rollout import roll_out
from r1_searcher.transcripts.grammar import ANSWER, END_ANSWER, END_QUERY, END_THINK, QUERY
from r1_searcher.types.protocols import Passage, Retriever, windows_of

SEARCH = f"Hm. {QUERY} where was Ada Lovelace born{END_QUERY}"
FINAL = f"So.{END_THINK}\n\n{ANSWER} London{END_ANSWER}"


def opened(number: int) -> str:
    return f"More. <|begin_of_open|> {number}<|end_of_open|>"


def place_of(passage: Passage) -> str:
    return passage.passage_id.rpartition("#")[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv("TAVILY_API_KEY", fake_web.KEY)
    return tmp_path


@pytest.fixture
def web() -> Iterator[fake_web.Web]:
    with fake_web.serve() as web:
        yield web


def with_searches(settings: params.Params, mode: str) -> params.Params:
    searches = settings.retriever.searches.model_copy(update={"mode": mode})
    return settings.model_copy(update={"retriever": settings.retriever.model_copy(update={"searches": searches})})


def test_neighbours_behind_each_kind_of_index(place: Path) -> None:
    """BM25, dense, hybrid, reranked, recorded and replayed: the same windows of one corpus."""
    model = random_encoder(place / "encoder")
    corpus = write_corpus(place / "corpus", [(f"Page {number // 3}", f"text {number}") for number in range(7)])
    build(tiny(model, "bm25"), corpus, place / "index")
    reranked = tiny(model, "bm25", rerank=str(random_cross_encoder(place / "judge")))
    kinds = [*(tiny(model, kind) for kind in ("bm25", "dense", "hybrid")), reranked]
    kinds += [with_searches(kinds[0], "record"), with_searches(kinds[0], "replay")]
    for settings in kinds:
        retriever = open_retriever(settings, index=place / "index")
        windows = windows_of(retriever)
        assert windows is not None
        [[found]] = retriever.search(["text 4"], 1)
        first, last, unknown = (Passage(name, "", "", 1.0) for name in ("p0", "p6", "p7"))
        for asked, before, after, expected in (
            (first, 2, 1, ["p0", "p1"]),
            (last, 1, 3, ["p5", "p6"]),
            (unknown, 1, 1, []),
        ):
            window = windows.around(asked, before, after)
            assert [one.passage_id for one in window] == expected, settings.retriever.kind
            assert all((one.text, one.score) == (f"text {one.passage_id[1:]}", 0.0) for one in window)
        assert found.passage_id in [one.passage_id for one in windows.around(found, 0, 0)]


def online(base: str, **changes: Any) -> params.Params:
    raw = params.shipped().model_dump()
    quick = {"backoff": 0.01, "calls_a_second": 1000.0, "attempts": 1, "allow_private_addresses": True}
    raw["retriever"] |= {"kind": "online"}
    raw["retriever"]["online"] |= {"engine": "tavily", "url": f"{base}/tavily", "passage_words": 20, **quick, **changes}
    rollout = rollout_params(max_turn_tokens=200, max_total_tokens=4000, max_passage_tokens=150).model_dump()
    raw["rollout"] = rollout | {"tools": ["search", "open"], "open": {"before": 0, "after": 2, "calls": 3}}
    return params.check(raw)


def play(settings: params.Params, script: str) -> pa.Table:
    engine = ScriptedEngine({"question": script})
    retriever: Retriever = open_retriever(settings, index=Path("nowhere"))
    table, _ = roll_out(engine, retriever, questions_table(["question"]), settings.rollout, samples=1, seed=0)
    check_rollouts(table, engine, settings.rollout, end_ids=[ord(END)])
    return table


def test_a_page_of_the_web_is_read_on_window_by_window_and_replayed(place: Path, web: fake_web.Web) -> None:
    words = [f"Word {number} of Ada Lovelace." for number in range(40)]
    web.pages["ada"] = ("Ada", ["Ada Lovelace was born in London in 1815, it is said in every book.", *words])
    settings = online(web.base)
    script = SEARCH + opened(1) + opened(3) + FINAL
    table = play(settings, script)
    (row,) = table.to_pylist()
    places = [[one.rpartition("#")[2] for one in turn["passage_ids"]] for turn in row["turns"]]
    assert places[1:] == [["0", "1", "2"], ["2", "3", "4"]] and row["turns"][0]["passage_ids"][0].endswith("/ada#0")
    assert "Word 0 of Ada" in row["segments"][3]["text"] and "rights reserved" not in row["text"]
    assert web.read.count("ada") == 1  # the page is kept
    web.read.clear()
    asked = len(web.asked)
    assert play(settings, script).equals(table)  # recorded: neither the engine nor the page is requested again
    assert (len(web.asked), web.read) == (asked, [])
    assert play(with_searches(settings, "replay"), script).equals(table)
    with pytest.raises(
        PipelineError, match=r"no recorded window of '.*/rome#0', 0 passages before and 2 after"
    ) as raised:
        play(with_searches(settings, "replay"), SEARCH + opened(2) + FINAL)
    assert "\n" not in str(raised.value)


def test_no_query_is_served_from_a_recorded_window(place: Path, web: fake_web.Web) -> None:
    settings = online(web.base)
    (row,) = play(settings, SEARCH + opened(1) + FINAL).to_pylist()
    number = row["turns"][0]["passage_ids"][0]
    query = f'["{number}", "Ada", 0, 2]'
    retriever = open_retriever(settings, index=Path("nowhere"))
    retriever.search([query], settings.rollout.k)
    assert web.asked[-1]["query"] == query


@pytest.mark.parametrize(
    "spoil",
    [
        lambda web, name: f"{web.base}/page/{name}",  # a snippet: the page could not be read
        lambda web, name: f"{web.base}/page/{name}#99",  # a page that has become shorter
        lambda web, name: f"{web.base}/page/missing#0",  # one that has gone
        lambda web, name: "file:///etc/passwd#0" if name else "",
    ],
)
def test_what_cannot_be_read_any_more_stands_alone(
    place: Path, web: fake_web.Web, spoil: Callable[[fake_web.Web, str], str]
) -> None:
    retriever = open_retriever(online(web.base), index=Path("nowhere"))
    windows = windows_of(retriever)
    assert windows is not None
    asked = Passage(spoil(web, "ada"), "Ada", "as it was found", 0.5)
    assert windows.around(asked, 1, 1) == [Passage(asked.passage_id, "Ada", "as it was found", 0.0)]


def test_without_pages_there_is_nothing_to_open(place: Path, web: fake_web.Web) -> None:
    with pytest.raises(PipelineError, match=r"rollout\.tools: the tool 'open' needs the passages .*pages: true"):
        play(online(web.base, pages=False), FINAL)
