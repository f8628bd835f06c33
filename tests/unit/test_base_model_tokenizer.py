"""The tiny model's tokenizer: lossless, tags whole or split, and a name has the same tokens everywhere."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_policy import tokenizer

from r1_searcher.corpus.world import make_world
from r1_searcher.models.tokenizer import TINY_END_OF_TEXT, train_tokenizer
from r1_searcher.params import WorldSize
from r1_searcher.transcripts import grammar

TEXT = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            [*grammar.TAGS, TINY_END_OF_TEXT, " ", "\n\n", "(12)", " 1931", "Zoë", "<|", "\ufffd", "\x00", "  "]
        ),
    ),
    max_size=10,
).map("".join)


@pytest.mark.parametrize("tags_are_tokens", [True, False])
@given(TEXT)
@settings(max_examples=100, deadline=None)
def test_text_comes_back_but_for_its_composed_forms(tags_are_tokens: bool, text: str) -> None:
    """Qwen2's tokenizer composes letters and accents (NFC); nothing else changes."""
    names = tokenizer(tags_are_tokens)
    ids = names.encode(text, add_special_tokens=False)
    back = names.decode(ids, skip_special_tokens=False)
    assert unicodedata.normalize("NFC", back) == unicodedata.normalize("NFC", text)
    assert back == text or not unicodedata.is_normalized("NFC", text)
    assert all(0 <= number < len(names) for number in ids)


@pytest.mark.parametrize("tags_are_tokens", [True, False])
def test_tags_are_one_token_or_several(tags_are_tokens: bool) -> None:
    names = tokenizer(tags_are_tokens)
    for tag in grammar.TAGS:
        ids = names.encode(f"so{tag} it", add_special_tokens=False)
        whole = [number for number in ids if names.decode([number]) == tag]
        assert len(whole) == tags_are_tokens
    assert names.encode(TINY_END_OF_TEXT, add_special_tokens=False) == [names.eos_token_id]


@pytest.mark.parametrize("tags_are_tokens", [True, False])
def test_a_saved_tokenizer_opens_the_same(tags_are_tokens: bool, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    names = tokenizer(tags_are_tokens)
    names.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = f"(1) Ada Kolm\n\n {grammar.QUERY} Silent Harbor{grammar.END_QUERY}é .{TINY_END_OF_TEXT}"
    ids = names.encode(text, add_special_tokens=False)
    assert again.encode(text, add_special_tokens=False) == ids and again.decode(ids) == text
    assert type(again) is type(names)
    assert (len(again), again.eos_token_id, again.pad_token_id) == (len(names), names.eos_token_id, names.pad_token_id)


def test_a_vocabulary_counts_everything_and_training_is_deterministic() -> None:
    passages = make_world(WorldSize(people=60, films=30, books=30, cities=20), 0).passages()["text"].to_pylist()
    first, second = (train_tokenizer(passages, 500) for _ in range(2))
    assert len(first) == 500
    assert first.get_vocab() == second.get_vocab()


@pytest.mark.parametrize("tags_are_tokens", [True, False])
def test_a_name_is_the_same_tokens_wherever_it_stands(tags_are_tokens: bool) -> None:
    """In a question, a query, a passage's beginning and middle, a thought and an answer, so that copying is all it
    takes."""
    world = make_world(WorldSize(people=60, films=30, books=30, cities=20), 1)
    passages = world.passages()["text"].to_pylist()
    names = train_tokenizer(
        [grammar.render_documents(passages[place : place + 2]) for place in range(0, len(passages), 2)],
        700,
        tags_are_tokens=tags_are_tokens,
    )
    places = (
        "User: Where was the director of {} born?",
        f"<think>{grammar.QUERY} {{}}{grammar.END_QUERY}",
        "(1) {} is a 1931 film",
        "was a pilot married to {}.\n(2)",
        "so it was {}, I think",
        f"{grammar.ANSWER} {{}}{grammar.END_ANSWER}",
    )
    for name in [person.name for person in world.people] + [work.title for work in world.works] + list(world.cities):
        expected = names.encode(f" {name}", add_special_tokens=False)
        for place in places:
            ids = names.encode(place.format(name), add_special_tokens=False)
            starts = range(len(ids) - len(expected) + 1)
            assert any(ids[start : start + len(expected)] == expected for start in starts), (name, place)
