"""Reciprocal rank fusion, and the retriever that combines two others."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher import params
from r1_searcher.retrieval.hybrid import HybridRetriever, fuse
from r1_searcher.types.protocols import Passage, RetrieverError

rankings_of = st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), min_size=1, max_size=3)


def ranking(names: Sequence[str]) -> list[Passage]:
    return [Passage(name, f"title {name}", f"text {name}", 9.0 - rank) for rank, name in enumerate(names)]


def names(passages: Sequence[Passage]) -> list[str]:
    return [passage.passage_id for passage in passages]


def test_the_sum_of_reciprocal_ranks_decides() -> None:
    found = fuse([ranking("abc"), ranking("cd")], 60, 4)
    assert names(found) == ["c", "a", "b", "d"]  # b and d are second of one each: in order of first occurrence
    assert found[0].score == pytest.approx(1 / 63 + 1 / 61) and found[0].text == "text c"
    assert [one.score for one in found[1:]] == pytest.approx([1 / 61, 1 / 62, 1 / 62])


def test_a_small_constant_favours_first_places_and_a_large_one_agreement() -> None:
    listed = [ranking("xabp"), ranking("ycdp")]  # x is first of one, p is fourth of both
    assert names(fuse(listed, 1, 1)) == ["x"]  # 1/2 > 2/5
    assert names(fuse(listed, 60, 1)) == ["p"]  # 1/61 < 2/64


@given(rankings_of, st.integers(1, 100), st.integers(1, 10))
def test_it_is_the_exact_sums_order(listed: list[list[str]], rrf_k: int, k: int) -> None:
    exact: dict[str, Fraction] = {}
    for one in listed:
        for rank, name in enumerate(one, 1):
            exact[name] = exact.get(name, Fraction(0)) + Fraction(1, rrf_k + rank)
    found = fuse([ranking(one) for one in listed], rrf_k, k)
    assert len(found) == len(set(names(found))) == min(k, len(exact))
    for passage in found:
        assert passage.score == pytest.approx(float(exact[passage.passage_id]))
    assert sorted((passage.score for passage in found), reverse=True) == [passage.score for passage in found]
    left_out = [float(value) for name, value in exact.items() if name not in names(found)]
    assert not left_out or max(left_out) <= found[-1].score + 1e-12


@given(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1), st.integers(1, 100))
def test_one_ranking_stays_as_it_is(one: list[str], rrf_k: int) -> None:
    assert names(fuse([ranking(one), []], rrf_k, 10)) == one


class Fixed:
    """Finds the same for every query, and records its calls."""

    def __init__(self, fingerprint: str, found: str, fails: bool = False) -> None:
        self.fingerprint, self._found, self._fails = fingerprint, found, fails
        self.asked: list[tuple[list[str], int]] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.asked.append((list(queries), k))
        if self._fails:
            raise RetrieverError("down")
        return [ranking(self._found)[:k] for _ in queries]


def test_both_are_asked_to_the_depth_and_k_are_given() -> None:
    one, two = Fixed("1", "abc"), Fixed("2", "cba")
    hybrid = HybridRetriever([one, two], params.Hybrid(rrf_k=60, depth=2))
    found = hybrid.search(["q", "r"], 1)
    assert [names(entry) for entry in found] == [["b"], ["b"]]  # second of both, within the depth
    assert one.asked == two.asked == [(["q", "r"], 2)]
    assert [len(entry) for entry in hybrid.search(["q"], 3)] == [3]  # k above the depth


def test_its_identity_is_that_of_its_parts_and_settings() -> None:
    settings = params.Hybrid(rrf_k=60, depth=2)

    def fingerprint(second: str, settings: params.Hybrid) -> str:
        return HybridRetriever([Fixed("1", "a"), Fixed(second, "b")], settings).fingerprint

    known = {
        fingerprint("2", settings),
        fingerprint("3", settings),
        fingerprint("2", params.Hybrid(rrf_k=61, depth=2)),
        fingerprint("2", params.Hybrid(rrf_k=60, depth=3)),
    }
    assert len(known) == 4 and fingerprint("2", settings) in known


def test_a_part_that_fails_fails_the_search() -> None:
    hybrid = HybridRetriever([Fixed("1", "a"), Fixed("2", "b", fails=True)], params.Hybrid(rrf_k=60, depth=2))
    with pytest.raises(RetrieverError, match="down"):
        hybrid.search(["q"], 1)
