"""The build in two passes against an index that bm25s makes at once; its memory; the mapped vocabulary."""

from __future__ import annotations

import json
import threading
import tracemalloc
from itertools import pairwise
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.progress import Paced
from r1_searcher.retrieval import build, vocabulary
from r1_searcher.retrieval.build import METHOD, build_index
from r1_searcher.retrieval.scores import DATA_FILE, INDICES_FILE, INDPTR_FILE, write_scores
from r1_searcher.retrieval.shards import ShardWriter, open_shard
from r1_searcher.retrieval.tokenizer import Tokenizer
from r1_searcher.retrieval.vocabulary import Vocabulary, write_vocabulary
from r1_searcher.types import schemas

SETTINGS = params.Index(k1=1.5, b=0.75, title_weight=2, stemmer="none", stopwords="none")
ARRAYS = (DATA_FILE, INDICES_FILE, INDPTR_FILE)
WORDS = st.lists(st.sampled_from(["ann", "bob", "cat", "dog", "elk", "fox", "gnu", "hen"]), max_size=12)


def table(passages: list[tuple[str, str]]) -> pa.Table:
    rows = [
        {"passage_id": f"p{number}", "title": title, "text": text, "source": "test"}
        for number, (title, text) in enumerate(passages)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.PASSAGES)


def in_one_piece(passages: list[tuple[str, str]], index: params.Index, folder: Path) -> dict[str, int]:
    """Write what bm25s itself writes; returns its vocabulary."""
    tokenizer = Tokenizer(index.stemmer, index.stopwords)
    numbers: dict[str, int] = {}
    words = [tokenizer(title) * index.title_weight + tokenizer(text) for title, text in passages]
    ids = [[numbers.setdefault(word, len(numbers)) for word in passage] for passage in words]
    scorer = bm25s.BM25(k1=index.k1, b=index.b, method=METHOD, backend="numpy", csc_backend="numpy")
    scorer.index((ids, numbers), create_empty_token=False, show_progress=False)
    scorer.save(folder, show_progress=False)
    return numbers


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    passages=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=12).filter(
        lambda found: any(title + text for title, text in found)
    ),
    memory_gb=st.sampled_from([1e-9, 1e-7, 3e-7, 1e-6, 1.0]),
    k1=st.sampled_from([0.0, 0.9, 1.5]),
    b=st.sampled_from([0.0, 0.4, 1.0]),
    stopwords=st.sampled_from(["none", "english"]),
)
def test_the_files_are_those_of_one_piece_whatever_the_budget(
    tmp_path: Path,
    *,
    passages: list[tuple[list[str], list[str]]],
    memory_gb: float,
    k1: float,
    b: float,
    stopwords: str,
) -> None:
    index = SETTINGS.model_copy(update={"memory_gb": memory_gb, "k1": k1, "b": b, "stopwords": stopwords})
    texts = [(" ".join(title), " ".join(text)) for title, text in passages]
    build_index(table(texts), index, tmp_path / "index", "corpus")
    numbers = in_one_piece(texts, index, tmp_path / "whole")
    for name in ARRAYS:
        assert (tmp_path / "index" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert Vocabulary(tmp_path / "index").to_dict() == numbers
    ours, theirs = (json.loads((tmp_path / name / "params.index.json").read_text()) for name in ("index", "whole"))
    assert ours == theirs


@pytest.mark.slow
def test_many_passages_in_many_shards_are_those_of_one_piece(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    texts = [
        (f"Title {number // 3}", " ".join(f"w{word}" for word in random.zipf(1.3, random.integers(0, 90)) % 5000))
        for number in range(2000)
    ]
    build_index(table(texts), SETTINGS.model_copy(update={"memory_gb": 2e-4}), tmp_path / "index", "corpus")
    numbers = in_one_piece(texts, SETTINGS, tmp_path / "whole")
    for name in ARRAYS:
        assert (tmp_path / "index" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert Vocabulary(tmp_path / "index").to_dict() == numbers
    opened = bm25s.BM25.load(tmp_path / "index", mmap=True, load_vocab=False)
    assert opened.get_scores_from_ids([numbers["w1"], numbers["title"]]).max() > 0


def test_shards_hold_every_pair_in_order(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 48 * 5)
    passages = [[3, 1, 3], [], [1, 1, 0], [2], [], [2, 2, 2, 2]]
    for ids in passages:
        writer.add(ids)
    places, lengths = writer.close()
    assert lengths.tolist() == [3, 0, 3, 1, 0, 4] and len(places) == 2
    pairs = []
    for place in places:
        shard = open_shard(place)
        for term, (start, end) in zip(shard.terms.tolist(), pairwise(shard.starts.tolist()), strict=True):
            pairs.append([(term, *pair) for pair in zip(shard.rows[start:end], shard.counts[start:end], strict=True)])
    assert pairs == [[(0, 2, 1)], [(1, 0, 1), (1, 2, 2)], [(3, 0, 2)], [(2, 3, 1), (2, 5, 4)]]


@pytest.mark.slow
def test_memory_stays_within_the_budget(tmp_path: Path) -> None:
    budget, num_terms, num_passages = 2_000_000, 3000, 6000
    random = np.random.default_rng(0)
    (tmp_path / "shards").mkdir()
    tracemalloc.start()
    writer = ShardWriter(tmp_path / "shards", budget)
    for _ in range(num_passages):
        writer.add((random.random(100) ** 2 * num_terms).astype(int).tolist())
    places, lengths = writer.close()
    _, first = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    entries = write_scores(places, lengths, num_terms, k1=1.5, b=0.75, memory=budget, folder=tmp_path)
    _, second = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(places) > 10 and entries > 500_000
    fixed = 8 * num_passages + 3 * 8 * num_terms
    assert first < budget + fixed and second < budget + fixed  # the corpus' pairs at once: 8 bytes × entries


@given(words=st.sets(st.text(max_size=6), min_size=1, max_size=30), other=st.text(max_size=6))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_vocabulary_is_the_dictionary(tmp_path: Path, words: set[str], other: str) -> None:
    numbers = {word: number for number, word in enumerate(sorted(words))}
    write_vocabulary(tmp_path, numbers)
    found = Vocabulary(tmp_path)
    assert len(found) == len(numbers) and found.to_dict() == numbers
    assert [found.get(word) for word in [*words, other]] == [numbers.get(word) for word in [*words, other]]


def test_terms_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_hash", lambda term: len(term) + 2**63)
    write_vocabulary(tmp_path, {"ann": 0, "bob": 1, "bo": 2, "cat": 3})
    found = Vocabulary(tmp_path)
    assert [found.get(word) for word in ("cat", "bob", "bo", "ann", "dog", "elks")] == [3, 1, 2, 0, None, None]


def test_a_word_that_no_file_can_hold_is_not_found(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, {"ann": 0})
    assert Vocabulary(tmp_path).get("\ud800") is None


def test_a_build_tells_how_far_its_steps_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []

    class Heard(Paced):
        def add(self, number: int, note: str = "") -> None:
            told.append((self._unit, self._total, number))

    monkeypatch.setattr(build, "Paced", Heard)
    build_index(
        table([("Ann", "ann met bo"), ("Bo", "bo"), ("Cy", "")]), SETTINGS, tmp_path / "index", "corpus", total=3
    )
    assert told == [("passages", 3, 3), ("scores", 0, 5)]  # ann, met, bo twice, cy


def test_a_build_that_fails_is_silent_afterwards(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(PipelineError):
        build_index(schemas.PASSAGES.empty_table(), SETTINGS, tmp_path / "index", "none")
    assert threading.active_count() == before
