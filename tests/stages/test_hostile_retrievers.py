"""The hostile set through every source of passages: files, corpus, index, service, record, and a web search engine's
snippets and pages. A rollout must not depend on it, as with harmless passages."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fake_web
import pytest
from hostile_play import ENDS, PAIRS, K, asked, check_same, harmless, play
from search_servers import in_thread, settings_for
from tiny_policy import params_with

from r1_searcher.files import passages
from r1_searcher.files.store import ROOT_VARIABLE
from r1_searcher.retrieval import build_index, open_index
from r1_searcher.retrieval.online.retriever import OnlineRetriever
from r1_searcher.retrieval.remote.client import ServiceRetriever
from r1_searcher.retrieval.searches import RecordedRetriever, RecordingRetriever, ReplayRetriever, SearchRecord
from r1_searcher.types.protocols import Passage, Retriever
from stages.corpus.run import run as make_corpus

SEARCHES = -(-len(PAIRS) // K)


class Counting:
    """Another retriever, whose passages are counted."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever, self.fingerprint, self.seen = retriever, retriever.fingerprint, set[tuple[str, str]]()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        found = self.retriever.search(queries, k)
        self.seen |= {(passage.title, passage.text) for entry in found for passage in entry}
        return found


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a corpus read from JSON lines; the query ``n7`` finds the seventh four of the set."""
    place = tmp_path_factory.mktemp("hostile")
    rows = [{"title": f"n{number // K} {title}", "text": text} for number, (title, text) in enumerate(PAIRS)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).replace("\\ud800", "")  # which a corpus refuses
    (place / "passages.jsonl").write_text(lines)
    settings = params_with(corpus__source="files", corpus__files=[str(place / "passages.jsonl")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(place / "store"))
        make_corpus(settings.corpus, 0, place / "corpus")
    build_index(passages.batches(place / "corpus"), settings.index, place / "index", "hostile")
    return place / "index"


@contextmanager
def web_search(monkeypatch: pytest.MonkeyPatch, *, pages: bool) -> Iterator[Retriever]:
    """A search engine whose hits are the set: as its snippets, or as the text of its pages."""
    monkeypatch.setenv("TAVILY_API_KEY", fake_web.KEY)
    settings = params_with().retriever.online
    quick = {"engine": "tavily", "calls_a_second": 10_000.0, "allow_private_addresses": True, "pages": pages}
    with fake_web.serve() as web:
        for number, (title, text) in enumerate(PAIRS):
            web.pages[f"h{number}"] = (html.escape(title), [html.escape(text), "It is a page about Rome, a city."])
            hit = {"url": f"{web.base}/page/h{number}", "title": title, "text": text}
            web.hits.setdefault(f"n{number // K}", []).append(hit)
        online = OnlineRetriever(
            settings.model_copy(update={"url": web.url("tavily"), **quick}), take=lambda limit: True
        )
        yield online
        online.close()


def check_nothing_changes(retriever: Retriever, step: int = 1) -> int:
    """Return how many passages were found. ``step``: take every so manieth pair of searches."""
    counting = Counting(retriever)
    scripts = [asked(number, ENDS["answer"]) for number in range(0, SEARCHES // 2, step)]
    for row, plain in zip(play(scripts, counting), play(scripts, harmless()), strict=True):
        check_same(row, plain)
        assert (row["finish_reason"], row["answer"], len(row["turns"])) == ("answer", "Trabo", 2)
        assert all(1 <= len(turn["passage_ids"]) <= K for turn in row["turns"])
    return len(counting.seen)


def test_from_files_to_an_index(index: Path) -> None:
    assert check_nothing_changes(open_index(index)) > 900


def test_from_a_service(index: Path) -> None:
    with in_thread(open_index(index)) as (url, _):
        assert check_nothing_changes(ServiceRetriever(settings_for(url))) > 900


def test_from_a_record(index: Path, tmp_path: Path) -> None:
    opened = open_index(index)
    record = SearchRecord(tmp_path)
    record.introduce(RecordedRetriever(opened.fingerprint, "bm25", "hostile", "a test's"))
    assert check_nothing_changes(RecordingRetriever(opened, record)) > 900
    replay = ReplayRetriever(opened.fingerprint, SearchRecord(tmp_path, replay=True))
    queries = [f"n{number}" for number in range(SEARCHES)]
    assert replay.search(queries[: SEARCHES // 2 * 2], K) == opened.search(queries[: SEARCHES // 2 * 2], K)
    assert check_nothing_changes(replay) > 900


def test_from_a_search_engines_snippets(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_search(monkeypatch, pages=False) as online:
        assert check_nothing_changes(online) > 900


def test_from_pages_of_the_web(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_search(monkeypatch, pages=True) as online:
        assert check_nothing_changes(online, step=5) > 170  # the extractor is slow on a page
