"""A dense index that does not match its corpus, its model or its parameters: one line each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dense_indexes import build, numbered, settings, tiny, write_corpus
from tiny_models import random_encoder

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import passages
from r1_searcher.files.sums import Damaged, renew
from r1_searcher.retrieval import build_index, identify, open_retriever
from r1_searcher.retrieval.dense import retriever
from r1_searcher.retrieval.dense.encoder import Encoder
from r1_searcher.retrieval.make import make_index


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the working directory, with the store in it."""
    monkeypatch.setenv("R1SEARCHER_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_index_of_another_corpus_is_refused(place: Path) -> None:
    chosen = tiny(random_encoder(place / "model"))
    corpus = write_corpus(place / "corpus", numbered(5))
    build(chosen, corpus, place / "index")
    other = write_corpus(place / "other", numbered(6))
    with pytest.raises(
        PipelineError, match=r"the dense index belongs to corpus [0-9a-f]{12}, not to [0-9a-f]{12} \(run"
    ):
        open_retriever(chosen, index=place / "index", corpus=other)
    build_index(passages.read(other), chosen.index, place / "second", passages.fingerprint(other))
    shutil.copytree(place / "index/dense", place / "second/dense")
    with pytest.raises(PipelineError, match="the dense index belongs to corpus"):
        open_retriever(chosen, index=place / "second")  # by default: it does not match the folder it is in
    with pytest.raises(PipelineError, match="the index belongs to another corpus"):
        retriever.add_dense(corpus, chosen, place / "second")


def test_an_index_of_another_model_is_refused(place: Path) -> None:
    model = random_encoder(place / "model")
    build(tiny(model), write_corpus(place / "corpus", numbered(5)), place / "index")
    another = random_encoder(place / "another", seed=1)
    with pytest.raises(PipelineError, match=r"was made with model [0-9a-f]{12}, and .*another is [0-9a-f]{12}"):
        open_retriever(tiny(another), index=place / "index")
    model.rename(place / "moved")
    open_retriever(tiny(place / "moved"), index=place / "index")
    with pytest.raises(PipelineError, match="no such model folder"):
        open_retriever(tiny(model), index=place / "index")


def test_a_dimension_that_does_not_fit_is_refused(place: Path) -> None:
    chosen = tiny(random_encoder(place / "model"))
    corpus = write_corpus(place / "corpus", numbered(5))
    build(chosen, corpus, place / "index")
    build(tiny(random_encoder(place / "wide", hidden=32)), corpus, place / "wider")
    shutil.copyfile(place / "wider/dense/vectors.faiss", place / "index/dense/vectors.faiss")
    with pytest.raises(Damaged, match=r"vectors\.faiss: its sha256 is"):
        open_retriever(chosen, index=place / "index")
    renew(place / "index/dense")
    with pytest.raises(PipelineError, match="the dense index has 32 dimensions, but 16 are needed"):
        open_retriever(chosen, index=place / "index")
    build(chosen, write_corpus(place / "shorter", numbered(4)), place / "short")
    shutil.copyfile(place / "short/dense/vectors.faiss", place / "index/dense/vectors.faiss")
    renew(place / "index/dense")
    with pytest.raises(PipelineError, match="the dense index has 4 vectors, but 5 are needed"):
        open_retriever(chosen, index=place / "index")


def test_what_is_missing_or_broken_is_one_line(place: Path) -> None:
    model = random_encoder(place / "model")
    corpus = write_corpus(place / "corpus", numbered(5))
    build(settings("", "dense"), corpus, place / "index")
    assert not (place / "index/dense").exists()
    for kind in ("dense", "hybrid"):
        with pytest.raises(PipelineError, match=r"no dense index here \(name a model in params\.yaml"):
            open_retriever(tiny(model, kind), index=place / "index")
    build(tiny(model), corpus, place / "index")
    (place / "index/dense/vectors.faiss").write_bytes(b"nothing of that kind")
    renew(place / "index/dense")
    with pytest.raises(PipelineError, match=r"vectors\.faiss: not a faiss index: .*\(run `dvc repro index`\)"):
        open_retriever(tiny(model), index=place / "index")
    (place / "index/dense/meta.json").write_text(json.dumps({"corpus": "c"}))
    renew(place / "index/dense")
    with pytest.raises(PipelineError, match="not the meta file of a dense index"):
        identify(tiny(model), index=place / "index")
    (place / "model/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(PipelineError, match="no model could be opened"):
        build(tiny(model), corpus, place / "index")


def test_vectors_that_float16_cannot_hold_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tiny(random_encoder(place / "model"), similarity="dot")
    corpus = write_corpus(place / "corpus", numbered(3))
    monkeypatch.setattr(Encoder, "passages", lambda self, texts: np.full((len(texts), 16), 1e5, np.float32))
    with pytest.raises(
        PipelineError, match=r"index\.dense\.storage: the model's vectors have values too large for float16"
    ):
        build(chosen, corpus, place / "index")
    assert not list((place / "store").glob("embeddings/*/*"))


@pytest.mark.parametrize(
    ("ivfpq", "count", "message"),
    [
        (
            {"lists": 4, "code_bytes": 5, "train": 300},
            300,
            "16 dimensions are not a multiple of 5 .one of 1, 2, 4, 8, 16",
        ),
        ({"lists": 4, "code_bytes": 4, "train": 300}, 20, "IVF-PQ needs 256 passages or more, got 20"),
        ({"lists": 400, "code_bytes": 4, "train": 300}, 300, "400 lists for 300 passages"),
        ({"lists": 4, "code_bytes": 4, "train": 100}, 300, "learns from 100 passages, and needs 256"),
    ],
)
def test_ivfpq_that_cannot_be_is_said_before(place: Path, ivfpq: dict[str, int], count: int, message: str) -> None:
    chosen = tiny(random_encoder(place / "model"), kind="ivfpq", ivfpq=ivfpq, passages_a_shard=1000)
    with pytest.raises(PipelineError, match=message):
        build(chosen, write_corpus(place / "corpus", numbered(count)), place / "index")


CONFIG = "config_sentence_transformers.json"


def wrong_model(place: Path) -> params.Params:
    return tiny(place / "intfloat_e5")


def unknown_prefix(place: Path) -> params.Params:
    return settings(random_encoder(place / "model"), max_tokens=16)


def wrong_similarity(place: Path) -> params.Params:
    model = random_encoder(place / "model")
    (model / CONFIG).write_text(json.dumps({"similarity_fn_name": "dot"}))
    return tiny(model)


def no_weights(place: Path) -> params.Params:
    model = random_encoder(place / "model")
    (model / "model.safetensors").write_bytes(b"no weights")
    return tiny(model)


def too_few(place: Path) -> params.Params:
    ivfpq = {"lists": 4, "code_bytes": 4, "train": 300}
    return tiny(random_encoder(place / "model"), kind="ivfpq", ivfpq=ivfpq)


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (wrong_model, "no such model folder"),
        (unknown_prefix, "gives the prefixes of queries and passages"),
        (
            wrong_similarity,
            rf"similarity: {CONFIG} of the model model names the similarity 'dot', not cosine \(set it to dot\)",
        ),
        (no_weights, "no model could be opened"),
        (too_few, "IVF-PQ needs 256 passages or more, got 5"),
    ],
)
def test_what_dense_search_cannot_do_is_said_before_bm25_is_built(
    place: Path, choose: Callable[[Path], params.Params], message: str
) -> None:
    chosen, corpus = choose(place), write_corpus(place / "corpus", numbered(5))
    with pytest.raises(PipelineError, match=message):
        make_index(chosen, corpus, place / "index")
    assert not (place / "index").exists()


def test_the_similarity_of_the_models_folder_is_followed(place: Path) -> None:
    chosen, corpus = wrong_similarity(place), write_corpus(place / "corpus", numbered(5))
    make_index(tiny(place / "model", similarity="dot"), corpus, place / "index")
    found = open_retriever(tiny(place / "model", similarity="dot"), index=place / "index").search(["p3"], 5)
    assert max(passage.score for passage in found[0]) > 1.5  # an inner product, and no cosine
    (place / "model" / CONFIG).write_text(json.dumps({"similarity_fn_name": "euclidean"}))
    with pytest.raises(PipelineError, match=r"'euclidean'.*another model"):
        make_index(chosen, corpus, place / "index")
