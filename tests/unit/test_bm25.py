"""BM25 search against a plain reference, and the rules for ties, unknown words and languages."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.retrieval import columns
from r1_searcher.retrieval.bm25 import Bm25Retriever, open_index
from r1_searcher.retrieval.build import build_index
from r1_searcher.retrieval.columns import top_rows
from r1_searcher.retrieval.tokenizer import Tokenizer
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Passage, Retriever

SETTINGS = params.Index(k1=1.5, b=0.75, title_weight=1, stemmer="none", stopwords="none")


def table(*passages: tuple[str, str]) -> pa.Table:
    rows = [
        {"passage_id": f"p{number}", "title": title, "text": text, "source": "test"}
        for number, (title, text) in enumerate(passages)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.PASSAGES)


def retriever(folder: Path, *passages: tuple[str, str], **changes: object) -> Bm25Retriever:
    build_index(table(*passages), SETTINGS.model_copy(update=changes), folder / "index", "corpus")
    return open_index(folder / "index")


def ids(found: list[list[Passage]]) -> list[list[str]]:
    return [[passage.passage_id for passage in passages] for passages in found]


def reference(documents: list[list[str]], query: list[str], k1: float, b: float) -> list[float]:
    """Return BM25 with Lucene's inverse document frequency, term by term."""
    mean_length = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term in query:
            containing = sum(term in other for other in documents)
            if term in counts:
                idf = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
                frequency = counts[term]
                score += idf * frequency / (frequency + k1 * (1 - b + b * len(document) / mean_length))
        scores.append(score)
    return scores


WORDS = st.lists(st.sampled_from(["ann", "bob", "cat", "dog", "elk", "fox", "gnu"]), max_size=6)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=8).filter(
        lambda found: any(a + b for a, b in found)
    ),
    query=WORDS,
    k=st.integers(1, 9),
    k1=st.sampled_from([0.0, 0.9, 1.5]),
    b=st.sampled_from([0.0, 0.4, 1.0]),
    title_weight=st.integers(1, 3),
)
def test_search_agrees_with_the_formula(
    tmp_path: Path,
    *,
    documents: list[tuple[list[str], list[str]]],
    query: list[str],
    k: int,
    k1: float,
    b: float,
    title_weight: int,
) -> None:
    found = retriever(
        tmp_path,
        *((" ".join(title), " ".join(text)) for title, text in documents),
        k1=k1,
        b=b,
        title_weight=title_weight,
    ).search([" ".join(query)], k)[0]
    expected = reference([title * title_weight + text for title, text in documents], query, k1, b)
    best = sorted((score for score in expected if score > 0), reverse=True)[:k]
    assert [passage.score for passage in found] == pytest.approx(best, rel=1e-5)
    for passage in found:
        assert passage.score == pytest.approx(expected[int(passage.passage_id[1:])], rel=1e-5)
    assert len({passage.passage_id for passage in found}) == len(found)


@given(scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30), k=st.integers(1, 40))
def test_top_rows_orders_by_score_then_row(scores: list[float], k: int) -> None:
    expected = sorted((row for row, score in enumerate(scores) if score > 0), key=lambda row: (-scores[row], row))[:k]
    assert top_rows(np.array(scores, dtype=np.float32), k).tolist() == expected


@given(
    seed=st.integers(0, 1000),
    size=st.integers(500, 3000),
    different=st.sampled_from([1, 3, 40, 5000]),
    zeros=st.sampled_from([0.0, 0.9, 0.999, 1.0]),
    k=st.integers(1, 20),
)
@settings(deadline=None)
def test_top_rows_of_many(seed: int, size: int, different: int, zeros: float, k: int) -> None:
    random = np.random.default_rng(seed)
    scores = (random.integers(1, different + 1, size) * (random.random(size) >= zeros)).astype(np.float32)
    expected = sorted(np.flatnonzero(scores).tolist(), key=lambda row: (-scores[row], row))[:k]
    assert top_rows(scores, k).tolist() == expected


def test_threads_change_nothing(tmp_path: Path) -> None:
    engine = retriever(tmp_path, *((f"Title {number}", f"a b c {number % 7}") for number in range(50)))
    queries = [f"title a {number}" for number in range(20)]
    assert open_index(tmp_path / "index", threads=3).search(queries, 4) == engine.search(queries, 4)


@pytest.mark.parametrize("k", [1, 10, 2000])
def test_columns_are_added_as_bm25s_adds_them(tmp_path: Path, k: int) -> None:
    engine = retriever(tmp_path, *((f"Title {number}", f"a b c {number % 7}") for number in range(150)))
    queries = ["title a 3 b", "c 5", "c 5", "nothing", "title 9"]
    expected = engine.search(queries, k)
    # Compiled by numba.
    engine._compiled = columns.Columns(engine._scorer.scores, compile=False)
    assert engine.search(queries, k) == expected


@pytest.mark.slow
def test_numba_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "JIT_FROM", 1)
    engine = retriever(tmp_path, *((f"Title {number}", f"a b c {number % 7}") for number in range(150)))
    assert engine._compiled is not None
    found = engine.search(["title a 3 b", "c 5"], 10)
    engine._compiled = None
    assert engine.search(["title a 3 b", "c 5"], 10) == found


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 300),
    different=st.sampled_from([1, 3, 5000]),
    zeros=st.sampled_from([0.0, 0.9, 1.0]),
    k=st.integers(1, 20),
)
def test_the_best_are_taken_as_numpy_takes_them(seed: int, size: int, different: int, zeros: float, k: int) -> None:
    random = np.random.default_rng(seed)
    scores = (random.integers(1, different + 1, size) * (random.random(size) >= zeros)).astype(np.float32)
    expected = top_rows(scores, k)
    wanted, rows, best = scores[expected].tolist(), np.empty(k, dtype=np.int64), np.empty(k, dtype=np.float32)
    found = columns.take_best(scores, rows, best)
    assert (rows[:found].tolist(), best[:found].tolist()) == (expected.tolist(), wanted)
    assert not scores.any()


def test_sums_that_were_interrupted_are_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = retriever(tmp_path, *((f"Title {number}", f"a b c {number % 7}") for number in range(50)))
    expected = engine.search(["c 5"], 4)
    engine._compiled = one = columns.Columns(engine._scorer.scores, compile=False)
    assert engine.search(["c 5"], 4) == expected

    def interrupted(*given: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(one, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.search(["title a"], 4)
    monkeypatch.undo()
    assert engine.search(["c 5"], 4) == expected


def test_equal_passages_come_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    same = [("Elk", "an elk")] * 40
    found = retriever(tmp_path, ("Dog", "a dog"), *same).search(["elk"], 5)
    assert ids(found) == [["p1", "p2", "p3", "p4", "p5"]]


def test_only_passages_that_share_a_word_are_found(tmp_path: Path) -> None:
    engine = retriever(tmp_path, ("Ann", "met Bob"), ("Cat", "ate"), ("Dog", "barked at Ann"))
    assert ids(engine.search(["ann", "unknown words", "", "?!", "ate"], 10)) == [["p0", "p2"], [], [], [], ["p1"]]


def test_a_batch_gives_what_single_queries_give(tmp_path: Path) -> None:
    engine = retriever(tmp_path, ("Ann", "met Bob"), ("Cat", "ate Bob"), ("Dog", "barked at Ann"))
    queries = ["bob ann", "cat", "nobody", "bob ann"]
    assert engine.search(queries, 2) == [engine.search([query], 2)[0] for query in queries]
    assert engine.search([], 2) == []


def test_the_order_of_words_changes_no_bit_of_a_score(tmp_path: Path) -> None:
    engine = retriever(tmp_path, *((f"Title {number}", f"a b c d e f {number}") for number in range(50)))
    forward, backward = engine.search(["a b c d title e f 7", "7 f e title d c b a"], 50)
    assert forward == backward


def test_a_found_passage_is_the_corpus_passage(tmp_path: Path) -> None:
    engine = retriever(tmp_path, ("Crown, the", "Silent  Crown —\na film."), ("Dog", "barks"))
    assert isinstance(engine, Retriever)
    [[passage]] = engine.search(["CROWN"], 3)
    assert (passage.passage_id, passage.title, passage.text) == ("p0", "Crown, the", "Silent  Crown —\na film.")
    assert passage.score > 0


def test_title_weight_prefers_the_passage_of_that_title(tmp_path: Path) -> None:
    passages = ("Silent Crown", "Directed by Ann Lee."), ("Ann Lee", "Born in Rome, she lived there and in Paris.")
    assert ids(retriever(tmp_path, *passages, title_weight=1).search(["ann lee"], 2)) == [["p0", "p1"]]
    assert ids(retriever(tmp_path, *passages, title_weight=3).search(["ann lee"], 2)) == [["p1", "p0"]]


def test_k_below_one_is_a_fault_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        retriever(tmp_path, ("Ann", "met Bob")).search(["ann"], 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('The U.S. Route 22, "A" & snake_case', ["the", "u", "s", "route", "22", "a", "snake", "case"]),
        ("Кто снял «Тихую гавань»?", ["кто", "снял", "тихую", "гавань"]),
        ("Ernő Rubik, ERNŐ", ["ernő", "rubik", "ernő"]),
        ("Erno\u030b", ["ernő"]),  # decomposed, the same word
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("مُحَمَّد بن", ["مُحَمَّد", "بن"]),
        ("北京是 China", ["北", "京", "是", "china"]),
        ("ｆｕｌｌ width", ["full", "width"]),
        ("\n\t…—", []),
    ],
)
def test_words_of_any_language(text: str, words: list[str]) -> None:
    assert Tokenizer(folding="case", kind="characters")(text) == words


def test_stop_words_go_before_stemming() -> None:
    assert Tokenizer("english", "english")("The directors were directing this") == ["director", "were", "direct"]
    assert Tokenizer("german", "german")("Die Häuser und Gärten") == ["haus", "gart"]


def test_a_query_of_stop_words_only_finds_nothing(tmp_path: Path) -> None:
    engine = retriever(tmp_path, ("The Dog", "the dog and the cat"), stopwords="english")
    assert ids(engine.search(["the and", "the dog"], 3)) == [[], ["p0"]]


def test_an_index_searches_with_the_settings_it_was_built_with(tmp_path: Path) -> None:
    engine = retriever(tmp_path, ("Film", "She directed films."), stemmer="english")
    assert ids(engine.search(["directing"], 3)) == [["p0"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stemmer": "klingon"}, r"index\.stemmer: no stemmer 'klingon' \(known: none, .*english"),
        ({"stopwords": "klingon"}, r"index\.stopwords: no stop-word list 'klingon' \(known: none, .*english"),
        ({"k1": -0.1}, r"index\.k1: must be 0 or more"),
        ({"k1": float("nan")}, r"index\.k1: must be 0 or more"),
        ({"b": 1.1}, r"index\.b: must lie between 0 and 1"),
    ],
)
def test_settings_out_of_range_stop_the_build(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        retriever(tmp_path, ("Ann", "met Bob"), **changes)
    assert not (tmp_path / "index").exists()


def test_a_corpus_without_words_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no passage of the corpus contains a word"):
        retriever(tmp_path, ("…", "?!"), ("", "—"))
