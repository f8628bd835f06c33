"""Vectors in Milvus Lite: built as an output, searched by several processes, and on a server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dense_indexes import build, numbered, tiny, write_corpus
from tiny_models import random_encoder

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.retrieval import identify, open_retriever

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
