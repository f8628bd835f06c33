"""Which retriever a run gets: the kind that the parameters name, and the same fingerprint before it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params, load
from r1_searcher.retrieval import build_index, identify, open_index, open_retriever
from r1_searcher.types import schemas

PARAMS = load(Path(__file__).resolve().parents[2] / "r1_searcher/params/defaults.yaml")
PASSAGES = [("Ann", "met Bob in Rome"), ("Cat", "ate"), ("Dog", "barked at Ann")]


def of_kind(kind: str) -> Params:
    return PARAMS.model_copy(update={"retriever": PARAMS.retriever.model_copy(update={"kind": kind})})


@pytest.fixture
def index(tmp_path: Path) -> Path:
    rows = [
        {"passage_id": f"p{number}", "title": title, "text": text, "source": "test"}
        for number, (title, text) in enumerate(PASSAGES)
    ]
    build_index(pa.Table.from_pylist(rows, schema=schemas.PASSAGES), PARAMS.index, tmp_path / "index", "corpus-1")
    return tmp_path / "index"


def test_bm25_is_the_default_and_searches_as_the_index_does(index: Path) -> None:
    opened, bare = open_retriever(PARAMS, index=index), open_index(index)
    queries = ["ann", "who ate", "nothing of it"]
    assert PARAMS.retriever.kind == "bm25"
    assert opened.search(queries, 2) == bare.search(queries, 2)
    assert opened.fingerprint == bare.fingerprint


def test_its_identity_needs_no_opening_and_is_that_of_the_opened_one(index: Path) -> None:
    opened = open_retriever(PARAMS, index=index)
    for path in index.iterdir():
        if path.name != "meta.json":
            path.unlink()
    found = identify(PARAMS, index=index)
    assert (found.fingerprint, found.corpus) == (opened.fingerprint, "corpus-1")
    assert found.description.startswith("bm25s, b 0.75, k1 1.5")


@pytest.mark.parametrize("use", [identify, open_retriever])
def test_an_unknown_kind_is_one_line_that_names_the_known_ones(index: Path, use: object) -> None:
    with pytest.raises(PipelineError, match=r"retriever\.kind: no retriever kind 'bm52' \(known: .*bm25, "):
        use(of_kind("bm52"), index=index)  # type: ignore[operator]


def test_another_corpus_is_refused(index: Path, tmp_path: Path) -> None:
    (tmp_path / "passages.parquet").write_bytes(b"another")
    with pytest.raises(PipelineError, match="the index belongs to corpus corpus-1"):
        open_retriever(PARAMS, index=index, corpus=tmp_path / "passages.parquet")


def recorded(folder: Path, mode: str, **changes: Any) -> Params:
    searches = PARAMS.retriever.searches.model_copy(update={"mode": mode, "folder": str(folder)})
    return PARAMS.model_copy(
        update={"retriever": PARAMS.retriever.model_copy(update={"searches": searches, **changes})}
    )


def test_bm25_is_recorded_on_demand_and_replayed_without_its_index(index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "searches"
    live = open_retriever(recorded(folder, "auto"), index=index)
    assert not folder.exists()  # the same search gives the same passages tomorrow
    recording = open_retriever(recorded(folder, "record"), index=index)
    found = recording.search(["ann", "who ate"], 2)
    assert found == live.search(["ann", "who ate"], 2)
    before = identify(PARAMS, index=index)
    for place in (index, tmp_path / "nowhere"):
        replay = open_retriever(recorded(folder, "replay"), index=place)
        assert replay.search(["ann", "who ate"], 2) == found
        assert replay.fingerprint == recording.fingerprint == live.fingerprint
        assert identify(recorded(folder, "replay"), index=place) == before


def test_replay_is_of_the_same_retriever(index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "searches"
    with pytest.raises(PipelineError, match="no recorded searches here"):
        open_retriever(recorded(folder, "replay"), index=index)
    open_retriever(recorded(folder, "record"), index=index)
    rows = [{"passage_id": "p", "title": "Else", "text": "of another corpus", "source": "test"}]
    other = tmp_path / "other"
    build_index(pa.Table.from_pylist(rows, schema=schemas.PASSAGES), PARAMS.index, other, "corpus-2")
    with pytest.raises(PipelineError, match=r"contains no searches of this retriever \(bm25 [0-9a-f]{12}\)"):
        open_retriever(recorded(folder, "replay"), index=other)
    open_retriever(recorded(folder, "record"), index=other)
    with pytest.raises(PipelineError, match="holds searches of 2 retrievers of kind bm25, not of one"):
        open_retriever(recorded(folder, "replay"), index=tmp_path / "nowhere")


def test_online_searches_are_recorded_unless_the_user_says_live(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1SEARCHER_STORE", str(tmp_path / "store"))
    online = PARAMS.retriever.online.model_copy(update={"url": "http://127.0.0.1:9/search"})
    places = {}
    for mode in ("live", "auto", "record"):
        params = recorded(Path(), mode, kind="online", online=online)
        searches = params.retriever.searches.model_copy(update={"folder": ""})
        params = params.model_copy(update={"retriever": params.retriever.model_copy(update={"searches": searches})})
        found = identify(params, index=tmp_path / "nowhere")
        assert found.corpus == "the web" and "searxng at http://127.0.0.1:9/search" in found.description
        assert open_retriever(params, index=tmp_path / "nowhere").fingerprint == found.fingerprint
        places[mode] = (tmp_path / "store" / "searches" / "searches.sqlite").exists()
    assert places == {"live": False, "auto": True, "record": True}
