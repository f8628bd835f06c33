"""Dense and hybrid indexes as files, and searches with real embeddings."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dense_indexes import build, numbered, settings, tiny, write_corpus
from tiny_models import minilm, random_cross_encoder, random_encoder

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, passages
from r1_searcher.files.store import Store
from r1_searcher.progress import Paced
from r1_searcher.retrieval import identify, open_index, open_retriever
from r1_searcher.retrieval.dense import retriever, shards
from r1_searcher.retrieval.dense.encoder import Embedding, Encoder
from r1_searcher.types.protocols import Retriever
from stages.index.__main__ import main

FACTS = [
    ("Marie Curie", "A physicist who discovered radium and was awarded two Nobel prizes."),
    ("Photosynthesis", "Plants turn sunlight, water and carbon dioxide into sugar and oxygen."),
    ("Mount Everest", "The highest summit on Earth, between Nepal and Tibet."),
    ("Guitar", "A musical instrument with six strings that are plucked or strummed."),
    ("Python", "A programming language whose blocks are marked by indentation."),
    ("Inflation", "A general rise of prices, so that money buys less than before."),
]
# No word of a question is in its passage, except stop words: only meaning finds it.
QUESTIONS = {
    "Which scientist worked on radioactivity?": "Marie Curie",
    "How do green leaves make food?": "Photosynthesis",
    "What's the tallest mountain?": "Mount Everest",
    "coding software": "Python",
    "Why does everything get more expensive?": "Inflation",
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the working directory, with the store in it."""
    monkeypatch.setenv("R1SEARCHER_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and an index with its vectors."""
    folder = tmp_path_factory.mktemp("built")
    model = random_encoder(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1SEARCHER_STORE", str(folder / "store"))
        build(tiny(model), write_corpus(folder / "corpus", numbered(5)), folder / "index")
    return model, folder / "index"


def titles(searcher: Retriever, query: str, k: int = 1) -> list[str]:
    return [passage.title for passage in searcher.search([query], k)[0]]


def test_meaning_is_found_where_words_are_not(place: Path) -> None:
    chosen = settings(minilm(), "dense")
    corpus = write_corpus(place / "corpus", FACTS)
    build(chosen, corpus, place / "index")
    dense = open_retriever(chosen, index=place / "index", corpus=corpus)
    for question, title in QUESTIONS.items():
        assert titles(dense, question) == [title], question
    words = open_index(place / "index")
    assert sum(titles(words, question) == [title] for question, title in QUESTIONS.items()) < len(QUESTIONS)
    [found] = dense.search(["tallest mountain"], 10)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len(found) == len(FACTS) and found[0].passage_id == "p2" and found[0].text == FACTS[2][1]
    assert -1 <= found[-1].score < found[0].score <= 1  # cosines

    hybrid = open_retriever(settings(minilm(), "hybrid"), index=place / "index", corpus=corpus)
    assert titles(hybrid, "coding software") == ["Python"]  # BM25 finds nothing at all
    assert words.search(["coding software"], 1) == [[]]
    for kind, opened in (("dense", dense), ("hybrid", hybrid)):
        known = identify(settings(minilm(), kind), index=place / "index")
        assert (known.fingerprint, known.corpus) == (opened.fingerprint, passages.fingerprint(corpus))
        assert known.description.startswith(kind)


def test_it_is_what_the_library_computes(place: Path) -> None:
    """The stored vectors equal those of the model called directly, and flat float32 finds what numpy finds."""
    from sentence_transformers import SentenceTransformer

    chosen = settings(minilm(), "dense", storage="float32", query_prefix="query: ", passage_prefix="passage: ")
    build(chosen, write_corpus(place / "corpus", FACTS), place / "index")
    bare = SentenceTransformer(str(minilm()), device="cpu")
    vectors = bare.encode([f"passage: {title}\n{text}" for title, text in FACTS], normalize_embeddings=True)
    query = bare.encode(["query: money and prices"], normalize_embeddings=True)[0]
    opened = open_retriever(chosen, index=place / "index")
    [found] = opened.search(["money and prices"], len(FACTS))
    best = np.argsort(-(vectors @ query))
    assert [one.passage_id for one in found] == [f"p{row}" for row in best]
    assert [one.score for one in found] == pytest.approx((vectors @ query)[best].tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq"])
@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_every_kind_finds_the_passage_itself_and_builds_the_same_bytes(place: Path, kind: str, storage: str) -> None:
    model = random_encoder(place / "model")
    ivfpq = {"lists": 4, "code_bytes": 8, "train": 1000}
    chosen = tiny(model, "dense", kind=kind, storage=storage, ivfpq=ivfpq, passages_a_shard=100)
    corpus = write_corpus(place / "corpus", numbered(300))
    for name in ("one", "two"):
        build(chosen, corpus, place / name)
    assert artefacts.sha256_tree(place / "one/dense") == artefacts.sha256_tree(place / "two/dense")
    opened = open_retriever(chosen, index=place / "one")
    queries = [f"{title}\n{text}" for title, text in numbered(300)[::10]]
    hits = [found[0].passage_id == f"p{10 * number}" for number, found in enumerate(opened.search(queries, 3))]
    assert np.mean(hits) >= (0.7 if kind == "ivfpq" else 1.0)  # 8 bytes per passage lose something
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(place / "one/dense") in line]
    assert mapped, "the vectors are not memory-mapped"


def test_ivfpq_gives_what_its_lists_hold(place: Path) -> None:
    chosen = tiny(random_encoder(place / "model"), kind="ivfpq", ivfpq={"lists": 64, "code_bytes": 4, "train": 1000})
    corpus = write_corpus(place / "corpus", numbered(300))
    build(chosen, corpus, place / "index")
    few = chosen.model_copy(
        update={
            "retriever": chosen.retriever.model_copy(
                update={"dense": params.DenseSearch(device="cpu", ef_search=1, probes=1)}
            )
        }
    )
    opened = open_retriever(few, index=place / "index")
    [found] = opened.search(["the book of p7"], 300)
    assert 0 < len(found) < 300 and len({one.passage_id for one in found}) == len(found)
    assert opened.fingerprint != open_retriever(chosen, index=place / "index").fingerprint


def test_a_killed_build_goes_on_with_what_was_embedded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tiny(random_encoder(place / "model"))
    corpus = write_corpus(place / "corpus", numbered(10))
    encode, embedded = Encoder.passages, []

    def killed_at_the_third(self: Encoder, texts: list[str]) -> np.ndarray:
        embedded.append(len(texts))
        if len(embedded) == 3:
            raise KeyboardInterrupt
        return encode(self, texts)

    monkeypatch.setattr(Encoder, "passages", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build(chosen, corpus, place / "index")
    assert not (place / "index/dense").exists() and len(list((place / "store").glob("embeddings/*/*"))) == 2
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(Paced, "told", lambda self, done, total, note: told.append((done, total)))
    build(chosen, corpus, place / "index")
    assert embedded == [4, 4, 2, 2]  # the interrupted shard, and nothing else
    assert told == [(10, 10)]
    whole = artefacts.sha256_tree(place / "index/dense")
    shutil.rmtree(place / "store")
    build(chosen, corpus, place / "index")
    assert artefacts.sha256_tree(place / "index/dense") == whole

    longer = write_corpus(place / "longer", [*numbered(10)[:8], ("p9", "born in kolm")])
    embedded.clear()
    build(chosen, longer, place / "second")
    assert embedded == [1]  # two shards are unchanged


def test_what_the_vectors_depend_on_is_embedded_anew(place: Path) -> None:
    model = random_encoder(place / "model")
    corpus = write_corpus(place / "corpus", numbered(4))
    kept = []
    for changes in ({}, {"query_prefix": "who "}, {"kind": "hnsw"}, {"passage_prefix": "book "}, {"max_tokens": 3}):
        build(tiny(model, **changes), corpus, place / "index")
        kept.append(len(list((place / "store").glob("embeddings/*/*"))))
    assert kept == [1, 1, 1, 2, 3]


def test_a_cross_encoder_orders_what_was_found(place: Path) -> None:
    corpus = write_corpus(place / "corpus", numbered(20))
    judge = random_cross_encoder(place / "judge")
    chosen = settings("", "bm25", rerank=str(judge))
    build(chosen, corpus, place / "index")
    query = "the book of p3"
    opened = open_retriever(chosen, index=place / "index", corpus=corpus)
    [found], [plain] = opened.search([query], 3), open_index(place / "index").search([query], 20)
    from sentence_transformers import CrossEncoder

    bare = CrossEncoder(str(judge), device="cpu", max_length=64)
    scores = bare.predict([(query, f"{one.title}\n{one.text}") for one in plain])
    best = np.argsort(-scores, kind="stable")[:3]
    assert [one.passage_id for one in found] == [plain[row].passage_id for row in best]
    assert [one.score for one in found] == pytest.approx(scores[best].tolist(), abs=1e-5)
    assert [one.passage_id for one in found] != [one.passage_id for one in plain[:3]]
    assert opened.search(["xyzzy"], 3) == [[]]

    known = identify(chosen, index=place / "index")
    assert known.fingerprint == opened.fingerprint != open_index(place / "index").fingerprint
    assert "first 50 reranked by" in known.description
    with pytest.raises(PipelineError, match=r"retriever\.rerank\.model, nowhere: no such model folder"):
        open_retriever(settings("", rerank="nowhere"), index=place / "index")
    two = random_cross_encoder(place / "two", labels=2)
    with pytest.raises(PipelineError, match="gives 2 scores per pair, not one"):
        open_retriever(settings("", rerank=str(two)), index=place / "index")


def test_the_commands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_corpus(place / "data/corpus", numbered(5))
    chosen = tiny(random_encoder(place / "model"), "hybrid")
    Path("params.yaml").write_text(yaml.safe_dump(chosen.model_dump(mode="json")))
    assert corpus.is_dir() and main([]) == 0
    out = capsys.readouterr().out
    assert "index: 5 vectors of 16 dimensions, flat -> data/index/dense" in out
    assert main(["search", "the book of p0", "-k", "2"]) == 0
    assert capsys.readouterr().out.startswith("1. 0.0")
    raw = chosen.model_dump(mode="json")
    raw["index"]["dense"]["model"] = "not/there/at-all"
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    assert main([]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: params.yaml, index.dense.model, not/there/at-all: no such model folder")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"query_prefix": "who "}, r"index\.dense\.query_prefix '' \(now 'who '\)"),
        ({"similarity": "dot"}, r"index\.dense\.similarity 'cosine' \(now 'dot'\)"),
        ({"max_tokens": 8}, r"index\.dense\.max_tokens 16 \(now 8\)"),
        ({"kind": "hnsw"}, r"index\.dense\.kind 'flat' \(now 'hnsw'\)"),
    ],
)
def test_a_search_with_settings_that_changed_since_the_build_is_refused(
    built_once: tuple[Path, Path], changes: dict[str, Any], named: str
) -> None:
    model, index = built_once
    open_retriever(tiny(model), index=index)
    with pytest.raises(PipelineError, match=f"the vectors were built with {named} \\(run `dvc repro index`"):
        open_retriever(tiny(model, **changes), index=index)


def test_what_depends_on_the_index_sees_that_its_vectors_changed(place: Path) -> None:
    """Other stages depend on meta.json; BM25's own identity stays the same."""
    model = random_encoder(place / "model")
    corpus = write_corpus(place / "corpus", numbered(5))
    metas = []
    for changes in ({}, {"kind": "hnsw"}):
        build(tiny(model, **changes), corpus, place / "index")
        metas.append(artefacts.read_json(place / "index/meta.json"))
        assert metas[-1]["dense"] == retriever.read_meta(place / "index")["fingerprint"]
    assert metas[0]["dense"] != metas[1]["dense"] and metas[0]["content"] == metas[1]["content"]


def test_a_search_without_queries_and_one_with_a_wrong_k(place: Path) -> None:
    chosen = tiny(random_encoder(place / "model"))
    build(chosen, write_corpus(place / "corpus", numbered(5)), place / "index")
    opened = open_retriever(chosen, index=place / "index")
    assert opened.search([], 3) == []
    with pytest.raises(ValueError, match="at least 1"):
        opened.search(["x"], 0)


def test_the_shards_are_whole_files_of_the_store(place: Path) -> None:
    build(tiny(random_encoder(place / "model")), write_corpus(place / "corpus", numbered(6)), place / "index")
    entries = Store().entries()
    assert [entry.kind for entry in entries] == [shards.EMBEDDINGS_KIND] * 2
    arrays = [np.load(entry.path / shards.EMBEDDINGS_FILE) for entry in entries]
    assert sorted(array.shape for array in arrays) == [(2, 16), (4, 16)]
    assert {array.dtype for array in arrays} == {np.dtype("float16")}


def test_a_text_is_cut_at_max_tokens(place: Path) -> None:
    folder = random_encoder(place / "model")
    for limit, equal in ((4, True), (16, False)):  # [CLS], two words, [SEP]
        dense = tiny(folder, max_tokens=limit).index.dense
        assert dense is not None
        embedding = Embedding.of(dense, folder)
        one, two = Encoder(folder, embedding, "cpu").passages(["ann lee born in kolm", "ann lee directed the film"])
        assert np.allclose(one, two, atol=1e-6) is equal


def test_several_threads_get_what_one_gets(place: Path) -> None:
    chosen = tiny(random_encoder(place / "model"))
    build(chosen, write_corpus(place / "corpus", numbered(50)), place / "index")
    opened = open_retriever(chosen, index=place / "index")
    queries = [f"the book of p{number}" for number in range(40)]
    alone = [titles(opened, query, 3) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: titles(opened, query, 3), queries)) == alone
