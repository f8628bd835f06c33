"""The generated corpus for measurements: reproducible, and like real text in what matters to an index."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from r1_searcher.corpus.kilt import read_kilt
from r1_searcher.files import passages
from r1_searcher.retrieval.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wikipedia_like", ROOT / "benchmarks" / "wikipedia_like.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(made: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "TOKENS_A_BATCH", 20_000)  # so that several batches are made
    large = list(made.passages(900, seed=3))
    assert list(made.passages(300, seed=3)) == large[:300]
    assert list(made.passages(300, seed=4)) != large[:300]
    assert len({row["passage_id"] for row in large}) == 900
    assert {row["text"].count(" ") + 1 for row in large} <= set(range(1, 101))


def test_no_two_ranks_share_a_word(made: ModuleType) -> None:
    ranks = [*range(30_000), *range(10**7, 10**7 + 5_000), 2**50]
    words = [made.spell(rank) for rank in ranks]
    assert len(set(words)) == len(words)
    stem = Tokenizer(stemmer="english")
    assert len({tuple(stem(word)) for word in words[100:]}) == len(words) - 100
    assert all(Tokenizer()(word) == [word] for word in words[:2000])


@pytest.mark.slow
def test_it_is_a_corpus(made: ModuleType, tmp_path: Path) -> None:
    made.write_corpus(tmp_path / "corpus", 500, seed=1, rows_a_part=200)
    assert len(passages.parts(tmp_path / "corpus")) == 3
    assert passages.read(tmp_path / "corpus").to_pylist() == list(made.passages(500, seed=1))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {DATA} (set R1SEARCHER_DATA)")
def test_it_is_like_wikipedia(made: ModuleType) -> None:
    path = DATA / "kilt_sample" / "kilt_knowledgesource_100.jsonl"
    real = made.statistics(read_kilt([path], [], 100))
    like = made.statistics(made._until(real["tokens"], real["tokens"] / real["pages"]))
    for name, tolerance in {
        "distinct tokens a full passage": 0.05,
        "bytes a full passage": 0.05,
        "vocabulary at 10,000 tokens": 0.15,
        "vocabulary at 100,000 tokens": 0.1,
        "vocabulary": 0.1,
        "share of terms in one passage": 0.2,
        "share of passages with the term of rank 100": 0.2,
        "share of passages with the term of rank 1,000": 0.2,
        "share of passages with the term of rank 10,000": 0.3,
    }.items():
        assert like[name] == pytest.approx(real[name], rel=tolerance), name
