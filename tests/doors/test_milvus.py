"""Vectors in Milvus Lite: built as an output, searched by several processes, and on a server."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dense_indexes import build, numbered, tiny, write_corpus
from tiny_models import random_encoder

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.retrieval import identify, open_retriever
from r1_searcher.retrieval.milvus import collection
from r1_searcher.retrieval.milvus.client import Milvus
from r1_searcher.retrieval.retrievers import load_retriever
from stages.index.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
COUNT = 200
SECOND = """
import sys, numpy, pathlib
from r1_searcher.retrieval.milvus.embedded import open_folder
vectors = open_folder(pathlib.Path(sys.argv[1]), 16)
print(len(vectors.search(numpy.ones((1, vectors.dimension), "float32"), 3)[0]), "of", vectors.count)
"""
QUERIES = [f"{title}\n{text}" for title, text in numbered(COUNT)[::10]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the working directory, with the store in it."""
    monkeypatch.setenv("R1SEARCHER_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_embedded_collection_finds_what_the_flat_index_finds(place: Path) -> None:
    model, corpus = random_encoder(place / "model"), write_corpus(place / "corpus", numbered(COUNT))
    exact, graph = (tiny(model, "dense", kind=kind, storage="float32") for kind in ("flat", "milvus"))
    build(exact, corpus, place / "exact")
    build(graph, corpus, place / "graph")
    wanted = open_retriever(exact, index=place / "exact", corpus=corpus).search(QUERIES, 5)
    opened = open_retriever(graph, index=place / "graph", corpus=corpus)
    found = opened.search(QUERIES, 5)
    assert [[one.passage_id for one in each] for each in found] == [[one.passage_id for one in each] for each in wanted]
    assert [[one.score for one in each] for each in found] == [
        pytest.approx([one.score for one in each], abs=1e-5) for each in wanted
    ]
    known = identify(graph, index=place / "graph")
    assert known.fingerprint == opened.fingerprint
    assert known.description.startswith("dense, ") and "milvus" in known.description
    assert open_retriever(exact, index=place / "exact").fingerprint != opened.fingerprint
    # Hybrid search needs nothing else.
    hybrid = open_retriever(tiny(model, "hybrid", kind="milvus", storage="float32"), index=place / "graph")
    assert {one.passage_id for one in hybrid.search(["the book of p7"], 3)[0]}


def test_searching_changes_no_file_and_several_processes_may(place: Path) -> None:
    model, corpus = random_encoder(place / "model"), write_corpus(place / "corpus", numbered(40))
    chosen = tiny(model, "dense", kind="milvus")
    build(chosen, corpus, place / "index")
    for folder in sorted((place / "index/dense").rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # a checkout by DVC has no empty folders
    before = artefacts.sha256_tree(place / "index")
    opened = open_retriever(chosen, index=place / "index")
    found = opened.search(["the book of p7"], 2)
    ended = subprocess.run(
        [sys.executable, "-c", SECOND, str(place / "index/dense/milvus.db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout.strip(), ended.stderr) == ("3 of 40", "")
    assert opened.search(["the book of p7"], 2) == found
    assert artefacts.sha256_tree(place / "index") == before
    assert (place / "index/dense").is_dir() and not list((place / "index").rglob("LOCK"))


def test_a_damaged_file_of_it_is_refused(place: Path) -> None:
    model, corpus = random_encoder(place / "model"), write_corpus(place / "corpus", numbered(20))
    chosen = tiny(model, "dense", kind="milvus")
    build(chosen, corpus, place / "index")
    [graph] = (place / "index/dense").rglob("*.idx")
    graph.write_bytes(graph.read_bytes()[:-10])
    with pytest.raises(PipelineError, match=r"hnsw\.idx: "):
        open_retriever(chosen, index=place / "index")


def test_an_index_of_another_corpus_is_refused(place: Path) -> None:
    model, corpus = random_encoder(place / "model"), write_corpus(place / "corpus", numbered(20))
    chosen = tiny(model, "dense", kind="milvus")
    build(chosen, corpus, place / "index")
    shutil.rmtree(place / "corpus")
    with pytest.raises(PipelineError, match="the dense index belongs to corpus"):
        open_retriever(chosen, index=place / "index", corpus=write_corpus(place / "corpus", numbered(21)))


@pytest.fixture
def server(place: Path) -> Iterator[str]:
    """Milvus Lite's own server, which speaks Milvus' gRPC."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
    serving, database, port = start_server_in_thread(data_dir=str(place / "server"), host="127.0.0.1", port=0)
    yield f"http://127.0.0.1:{port}"
    serving.stop(grace=0)
    database.close()


def on_server(model: Path, uri: str, **changes: Any) -> params.Params:
    raw = tiny(model, "dense", kind="server", storage="float32", passages_a_shard=100).model_dump()
    raw["retriever"] |= {"kind": "milvus", "milvus": {"uri": uri, "wait": 0.0, "timeout": 20.0, **changes}}
    raw["retriever"]["searches"]["mode"] = "live"
    return params.check(raw)


def test_a_server_is_loaded_by_a_command_that_continues(
    place: Path, server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, corpus = random_encoder(place / "model"), write_corpus(place / "corpus", numbered(COUNT))
    exact, wanted = tiny(model, "dense", kind="flat", storage="float32"), on_server(model, server)
    build(exact, corpus, place / "exact")
    build(wanted, corpus, place / "index")
    assert "no vectors here (index.dense.kind: server)" in capsys.readouterr().out
    assert not (place / "index/dense").exists()
    with pytest.raises(PipelineError, match=r"has no collection r1_searcher_\w{64} \(run `r1-searcher index load`\)"):
        open_retriever(wanted, index=place / "index")
    (place / "params.yaml").write_text(yaml.safe_dump(wanted.model_dump()))
    given = ["--index", "index", "--corpus", "corpus"]

    # Killed after two requests of fifty rows.
    monkeypatch.setattr(collection, "_BYTES_A_REQUEST", 50 * 16 * 4)
    monkeypatch.setattr(collection, "ROWS_AGAIN", 60)
    asked = Milvus.asked
    sent: list[int] = []

    def counting(self: Milvus, name: str, *arguments: Any, **named: Any) -> Any:
        if name in ("insert", "upsert"):
            if len(sent) == 2:
                raise KeyboardInterrupt
            sent.append(arguments[1][0]["row"])
        return asked(self, name, *arguments, **named)

    monkeypatch.setattr(Milvus, "asked", counting)
    with pytest.raises(KeyboardInterrupt):
        load_retriever(wanted, index=place / "index", corpus=corpus)
    with pytest.raises(PipelineError, match=r"has \d+ of 200 vectors, of 16 dimensions"):
        open_retriever(wanted, index=place / "index")
    first, sent[:] = list(sent), [-1, -1, -1]  # from now on no request is the third
    assert main(["load", *given]) == 0
    assert "200 vectors in the collection r1_searcher_" in capsys.readouterr().out
    assert (first, sent[3:]) == ([0, 50], [40, 90, 100, 150])

    opened = open_retriever(wanted, index=place / "index", corpus=corpus)
    known = identify(wanted, index=place / "index")
    assert known.fingerprint == opened.fingerprint and server not in known.description
    ours = open_retriever(exact, index=place / "exact").search(QUERIES, 5)
    theirs = opened.search(QUERIES, 5)
    assert [[one.passage_id for one in each] for each in theirs] == [[one.passage_id for one in each] for each in ours]

    other = write_corpus(place / "other", numbered(20))
    build(wanted, other, place / "second")
    with pytest.raises(PipelineError, match=r"has no collection .*; of other corpora, models or settings: r1_"):
        open_retriever(wanted, index=place / "second")


def test_an_absent_server_and_a_key_in_clear_text_are_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, corpus = random_encoder(place / "model"), write_corpus(place / "corpus", numbered(20))
    for uri, settings, message in (
        ("http://127.0.0.1:1", {"timeout": 0.5}, r"no Milvus server answers at http://127\.0\.0\.1:1: "),
        ("http://milvus.example", {"key_variable": "MILVUS_API_KEY"}, "would be sent as clear text"),
        ("http://a:secret@127.0.0.1:1", {}, "an address must not contain a password"),
    ):
        monkeypatch.setenv("MILVUS_API_KEY", "root:secret")
        wanted = on_server(model, uri, **settings)
        build(wanted, corpus, place / "index")
        with pytest.raises(PipelineError, match=message) as caught:
            open_retriever(wanted, index=place / "index")
        assert "secret" not in str(caught.value)
