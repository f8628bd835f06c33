"""Stop strings: the finder agrees with decoding everything after every token."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_policy import GLUED_ANSWER, GLUED_QUERY, random_engine, tokenizer

from r1_searcher.rollout.stops import StopFinder
from r1_searcher.transcripts import grammar


@functools.cache
def finder(tags_are_tokens: bool, stops: tuple[str, ...] = grammar.STOPS) -> StopFinder:
    engine = random_engine(tags_are_tokens)
    texts = [engine.decode([number]) for number in range(len(engine.tokenizer))]
    return StopFinder(texts, stops, engine.decode)


def naive(tags_are_tokens: bool, ids: list[int], stops: tuple[str, ...]) -> set[str]:
    """Return the stops that the last token completed, by decoding the whole turn with and without it."""
    decode = random_engine(tags_are_tokens).decode
    now, before = decode(ids), decode(ids[:-1])
    return {stop for stop in stops if now.count(stop) > before.count(stop)}


def token_ids(tags_are_tokens: bool) -> st.SearchStrategy[list[int]]:
    """Draw random tokens, mixed with tags as the tokenizer writes them, whole and truncated."""
    names = tokenizer(tags_are_tokens)
    written = [*grammar.STOPS, GLUED_QUERY, GLUED_ANSWER, grammar.QUERY, "<|end_of", "</ans", "é", "<|end_of_query<"]
    pieces = [names.encode(text, add_special_tokens=False) for text in written]
    letters = [names.encode(letter, add_special_tokens=False) for letter in "<|>/_endofqueryaswr"]
    anything = st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=3)
    return st.lists(
        st.one_of(st.sampled_from(pieces), st.sampled_from(letters), anything), min_size=1, max_size=12
    ).map(lambda parts: [number for part in parts for number in part])


@pytest.mark.slow
@pytest.mark.parametrize("tags_are_tokens", [True, False])
@given(st.data())
@settings(max_examples=80, deadline=None)
def test_the_finder_agrees_with_naive_decoding(tags_are_tokens: bool, data: st.DataObject) -> None:
    ids = data.draw(token_ids(tags_are_tokens))
    chosen = data.draw(st.sampled_from([grammar.STOPS, ("e",), ("is", "</answer>", " ")]))
    found = finder(tags_are_tokens, chosen)
    for length in range(1, len(ids) + 1):
        expected = naive(tags_are_tokens, ids[:length], chosen)
        stop = found.find(ids[:length])
        assert (stop in expected) if expected else stop is None
        if expected:
            break  # the turn has ended


@pytest.mark.parametrize("tags_are_tokens", [True, False])
@pytest.mark.parametrize("stop", grammar.STOPS)
def test_a_tag_spelled_letter_by_letter(tags_are_tokens: bool, stop: str) -> None:
    names = tokenizer(tags_are_tokens)
    ids = [number for letter in f"abc{stop}" for number in names.encode(letter, add_special_tokens=False)]
    assert len(ids) == len(stop) + 3
    found = [finder(tags_are_tokens).find(ids[:length]) for length in range(1, len(ids) + 1)]
    assert found == [None] * (len(ids) - 1) + [stop]


@pytest.mark.parametrize(("glued", "stop"), [(GLUED_QUERY, grammar.END_QUERY), (GLUED_ANSWER, grammar.END_ANSWER)])
def test_a_last_token_that_goes_on_after_the_tag(glued: str, stop: str) -> None:
    names = tokenizer(False)
    ids = names.encode(f"so{glued}", add_special_tokens=False)
    last = names.decode(ids[-1:])
    assert not stop.endswith(last) and glued.endswith(last), "the tokenizer was to glue something to the tag"
    assert [finder(False).find(ids[:length]) for length in range(1, len(ids) + 1)] == [None] * (len(ids) - 1) + [stop]


@pytest.mark.parametrize("tags_are_tokens", [True, False])
def test_few_tokens_are_looked_at_closer(tags_are_tokens: bool) -> None:
    """Only those that can end a tag: with tags as tokens, these and a few pieces of them."""
    names = tokenizer(tags_are_tokens)
    texts = [names.decode([number]) for number in sorted(finder(tags_are_tokens).candidates)]
    assert len(texts) < 0.1 * len(names)
    assert all(">" in text or any(stop.endswith(text) for stop in grammar.STOPS) for text in texts)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_vocabulary(data: st.DataObject) -> None:
    """Tokens may contain a whole stop and more on both sides, or several ends of stops."""
    vocabulary = data.draw(st.lists(st.text("<>/ab", min_size=1, max_size=6), min_size=1, max_size=8))
    ids = data.draw(st.lists(st.integers(0, len(vocabulary) - 1), min_size=1, max_size=12))

    def decode(numbers: Sequence[int]) -> str:
        return "".join(vocabulary[number] for number in numbers)

    stops = ("<a>", "b/")
    found = StopFinder(vocabulary, stops, decode)
    for length in range(1, len(ids) + 1):
        completed = {stop for stop in stops if decode(ids[:length]).count(stop) > decode(ids[: length - 1]).count(stop)}
        stop = found.find(ids[:length])
        assert (stop in completed) if completed else stop is None
        if completed:
            break


def test_a_stop_in_the_middle_of_one_token() -> None:
    vocabulary = ["so", " x</answer>, y", "</answer"]
    found = StopFinder(vocabulary, grammar.STOPS, lambda ids: "".join(vocabulary[number] for number in ids))
    assert [found.find(ids) for ids in ([0], [0, 1], [0, 2])] == [None, grammar.END_ANSWER, None]
