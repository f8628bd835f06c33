"""The record of searches: it returns what was written, whoever writes, however a run ends; replay serves nothing
else."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.online.client import SearchStopped
from r1_searcher.retrieval.searches import (
    SEARCHES_FILE,
    RecordedRetriever,
    RecordingRetriever,
    ReplayRetriever,
    SearchRecord,
)
from r1_searcher.types.protocols import Passage, RetrieverError, whole

ROOT = Path(__file__).resolve().parents[2]
ONE = RecordedRetriever("one", "online", "the web", "tavily")


def passages(query: str, count: int = 2) -> list[Passage]:
    return [Passage(f"{query}#{n}", f"Title {n}", f"{query} says {n}", 1.0 / (n + 1)) for n in range(count)]


class Finder:
    """Finds something for every query; fails, or hangs, if the query says so."""

    fingerprint = "one"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.calls.append(list(queries))
        found = [RetrieverError("down") if "fail" in query else passages(query, k) for query in queries]
        if any("stop" in query for query in queries):
            stop = SearchStopped("used up")
            stop.found = [stop if "stop" in query else entry for query, entry in zip(queries, found, strict=True)]
            raise stop
        return whole(found)


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(),
        st.lists(st.builds(Passage, st.text(), st.text(), st.text(), st.floats(allow_nan=False, allow_infinity=False))),
        max_size=4,
    ),
    st.integers(1, 5),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, list[Passage]], k: int
) -> None:
    record = SearchRecord(tmp_path_factory.mktemp("record"))
    record.put("one", k, found)
    assert record.get("one", [*found, "another query"], k) == found
    assert record.get("one", found, k + 1) == record.get("two", found, k) == {}
    record.close()


def test_a_search_is_made_once_and_then_served(tmp_path: Path) -> None:
    finder = Finder()
    recording = RecordingRetriever(finder, SearchRecord(tmp_path))
    first = recording.search(["a", "b", "a"], 2)
    assert first == [passages("a"), passages("b"), passages("a")]
    assert recording.search(["b", "c"], 2) == [passages("b"), passages("c")]
    assert recording.search(["a"], 1) == [passages("a", 1)]  # another k is another search
    assert finder.calls == [["a", "b"], ["c"], ["a"]]
    assert RecordingRetriever(Finder(), SearchRecord(tmp_path)).search(["a", "b", "a"], 2) == first
    assert recording.fingerprint == "one"


def test_failures_are_not_recorded_and_do_not_take_others_with_them(tmp_path: Path) -> None:
    finder = Finder()
    recording = RecordingRetriever(finder, SearchRecord(tmp_path))
    with pytest.raises(RetrieverError) as error:
        recording.search(["a", "fail", "b"], 2)
    assert [isinstance(entry, list) for entry in error.value.found or ()] == [True, False, True]
    with pytest.raises(PipelineError, match="used up"):
        recording.search(["c", "stop", "fail", "d"], 2)
    assert set(SearchRecord(tmp_path).get("one", ["a", "fail", "b", "c", "stop", "d"], 2)) == {"a", "b", "c", "d"}
    assert recording.search(["a", "b", "c", "d"], 2)
    assert len(finder.calls) == 2


def test_an_empty_result_is_a_result(tmp_path: Path) -> None:
    SearchRecord(tmp_path).put("one", 2, {"zebra": []})
    assert ReplayRetriever("one", SearchRecord(tmp_path, replay=True)).search(["zebra"], 2) == [[]]


def test_replay_serves_the_record_and_a_miss_names_query_and_k(tmp_path: Path) -> None:
    SearchRecord(tmp_path).put("one", 2, {"a": passages("a")})
    replay = ReplayRetriever("one", SearchRecord(tmp_path, replay=True))
    assert replay.search(["a", "a"], 2) == [passages("a")] * 2
    for queries, k in ((["a", "who is b"], 2), (["a"], 3)):
        with pytest.raises(PipelineError) as error:
            replay.search(queries, k)
        assert f"no recorded search for {queries[-1]!r} with k = {k}" in str(error.value)
        assert SEARCHES_FILE in str(error.value)


def test_nothing_is_written_in_replay(tmp_path: Path) -> None:
    SearchRecord(tmp_path).put("one", 2, {"a": passages("a")})
    before = (tmp_path / SEARCHES_FILE).read_bytes()
    record = SearchRecord(tmp_path, replay=True)
    record.get("one", ["a"], 2)
    with pytest.raises(PipelineError, match="readonly"):
        record.put("one", 2, {"b": passages("b")})
    record.close()
    assert (tmp_path / SEARCHES_FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [SEARCHES_FILE]


def test_calls_are_booked_a_run_however_often_it_is_started(tmp_path: Path) -> None:
    record = SearchRecord(tmp_path)
    record.introduce(ONE)
    assert [record.take("one", "laptop, seed 0", 3) for _ in range(2)] == [True, True]
    again = SearchRecord(tmp_path)
    again.introduce(ONE)
    assert [again.take("one", "laptop, seed 0", 3) for _ in range(3)] == [True, False, False]
    assert [again.take("one", "laptop, seed 1", 3) for _ in range(2)] == [True, True]  # another run has its own budget
    assert [record.take("one", "laptop, seed 0", limit) for limit in (3, 4)] == [False, True]  # a raised one goes on
    assert [(one.fingerprint, one.calls, one.searches) for one in record.retrievers()] == [("one", 6, 0)]
    assert record.runs("one") == {"laptop, seed 0": 4, "laptop, seed 1": 2}
    assert record.runs("two") == {}


def test_a_record_from_before_runs_were_told_apart_is_gone_on_with(tmp_path: Path) -> None:
    record = SearchRecord(tmp_path)
    record.introduce(ONE)
    record.close()
    with sqlite3.connect(tmp_path / SEARCHES_FILE) as database:
        database.execute("drop table runs")
        database.execute("update retrievers set calls = 7")
    assert SearchRecord(tmp_path, replay=True).runs("one") == {}  # which only reads
    record = SearchRecord(tmp_path)
    assert record.take("one", "laptop, seed 0", 1)
    assert record.runs("one") == {"laptop, seed 0": 1}
    assert [one.calls for one in record.retrievers()] == [8]


WRITER = """
import sys
from pathlib import Path
from r1_searcher.types.protocols import Passage
from r1_searcher.retrieval.searches import SearchRecord, RecordedRetriever
record = SearchRecord(Path(sys.argv[1]))
record.introduce(RecordedRetriever("one", "online", "the web", "tavily"))
for number in range(int(sys.argv[3])):
    record.take("one", "run", 10**9)
    query = f"{sys.argv[2]} {number}"
    record.put("one", 2, {query: [Passage(query, "t", "text of " + query, 0.5), Passage("shared", "t", "x", 0.25)]})
    if number == 5:
        print("going", flush=True)
"""


def writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, str(count)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_several_processes_and_threads_write_at_once(tmp_path: Path) -> None:
    processes = [writer(tmp_path, name, 20) for name in ("a", "b")]
    record = SearchRecord(tmp_path)
    record.introduce(ONE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: record.put("one", 2, {f"c {n}": passages(f"c {n}")}), range(20)))
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    queries = [f"{name} {number}" for name in "abc" for number in range(20)]
    assert len(record.get("one", queries, 2)) == 60
    assert record.retrievers()[0].calls == 40


def test_a_killed_writer_leaves_a_whole_record(tmp_path: Path) -> None:
    process = writer(tmp_path, "a", 1_000_000)
    assert process.stdout is not None and process.stdout.readline() == "going\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    record = SearchRecord(tmp_path)
    found = record.get("one", [f"a {number}" for number in range(100_000)][:2000], 2)
    assert len(found) > 5 and all(entry[0].text == f"text of {query}" for query, entry in found.items())
    record.put("one", 2, {"after": passages("after")})
    assert sqlite3.connect(tmp_path / SEARCHES_FILE).execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_record_that_is_missing_broken_or_changed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no recorded searches here"):
        SearchRecord(tmp_path, replay=True)
    (tmp_path / SEARCHES_FILE).write_text(
        "this is no database, whatever its name says; it is longer than a header " * 9
    )
    with pytest.raises(PipelineError, match=r"the record cannot be used: file is not a database \(.*verify --repair"):
        SearchRecord(tmp_path)
    (tmp_path / SEARCHES_FILE).unlink()
    record = SearchRecord(tmp_path)
    record.put("one", 2, {"a": passages("a")})
    sqlite3.connect(tmp_path / SEARCHES_FILE, isolation_level=None).execute("update passages set text = 'forged'")
    with pytest.raises(PipelineError, match="is missing or changed"):
        record.get("one", ["a"], 2)
    sqlite3.connect(tmp_path / SEARCHES_FILE, isolation_level=None).execute("pragma user_version = 7")
    with pytest.raises(PipelineError, match="a record of form 7, not 1"):
        SearchRecord(tmp_path)
