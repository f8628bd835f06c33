"""Passages are cut with few encodings, and the blocks equal the plain way's: one encoding per length tried."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from blocks_by_search import BlocksBySearch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_documents import ALL, ANY, KINDS, OnlyTokens, kind
from test_tokenizers_round_trip import built
from tiny_policy import rollout_params

from r1_searcher.rollout.blocks import Blocks
from r1_searcher.rollout.codec import Codec
from r1_searcher.rollout.prefix_lengths import parts_at_spaces
from r1_searcher.transcripts.documents import neutralise
from r1_searcher.types.protocols import Passage

BPE = ("qwen", "llama", "smollm")
WORDS = (
    "Ada Kolm was born in Trabo in 1931, and made Silent Harbor: a film (of 9 reels) about the river's mouth".split()
)
LONG = [
    " ".join(WORDS * 20),
    "=" * 900,
    "Trabo" * 90,
    "a." * 300,
    "e\u0301 " * 150,
    "中文" * 200,
    "(1) " * 80,
    "‹›⟦1B⟧" * 60,
]


@functools.cache
def made(name: str) -> Any:
    """Return a tokenizer of each kind in the tests, and two that the short way does not support."""
    if name == "across":  # SentencePiece's as in Llama 2: spaces are letters, and a token may span words
        from tokenizers import Tokenizer, decoders, models, normalizers
        from transformers import PreTrainedTokenizerFast

        letters = sorted({chr(code) for code in range(0x20, 0x7F)} - {" "} | {"▁", "\n"})
        pairs = [("▁was", -3.0), ("was▁born", -2.5), ("born▁in", -2.5), ("▁in▁", -2.0), ("o▁a", -2.0), ("==", -3.5)]
        pieces = [("<unk>", 0.0), *((letter, -3.0) for letter in letters), *pairs]
        draft = Tokenizer(models.Unigram(pieces, unk_id=0))
        draft.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        draft.decoder = decoders.Replace("▁", " ")
        return PreTrainedTokenizerFast(tokenizer_object=draft, unk_token="<unk>")
    return built(name) if name in BPE else kind(name)


class Counting(OnlyTokens):
    """Counts the engine's encodings."""

    def __init__(self, names: Any) -> None:
        super().__init__(names)
        self.asked: Counter[str] = Counter()

    def encode(self, text: str) -> list[int]:
        self.asked[text] += 1
        return super().encode(text)


class Promising(OnlyTokens):
    """Like the real engines: its tokens are a codec's."""

    def __init__(self, names: Any) -> None:
        super().__init__(names)
        self.codec = Codec(names)

    def encode(self, text: str) -> list[int]:
        return self.codec.encode(text)

    def decode(self, ids: Any) -> str:
        return self.codec.decode(ids)


class Shouting(OnlyTokens):
    """An engine whose tokens of a text differ from its tokenizer's."""

    def encode(self, text: str) -> list[int]:
        return super().encode(text.upper())


class Letters:
    """An engine without a tokenizer."""

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    def decode(self, ids: Any) -> str:
        return "".join(map(chr, ids))


def both(engine: Any, passage: int, documents: int = 0) -> tuple[Blocks, BlocksBySearch]:
    limits = rollout_params(k=5, max_passage_tokens=passage, max_documents_tokens=documents, passages="title_and_text")
    return Blocks(engine, limits), BlocksBySearch(engine, limits)


@functools.cache
def kept(name: str, passage: int, documents: int) -> tuple[Blocks, Blocks, BlocksBySearch]:
    short, plain = both(OnlyTokens(made(name)), passage, documents)
    return both(Promising(made(name)), passage, documents)[0], short, plain


def check_alike(ways: Sequence[Blocks | BlocksBySearch], texts: list[tuple[str, str]]) -> None:
    found = [Passage(str(number), *pair, 1.0) for number, pair in enumerate(texts)]
    *others, plain = (way.render(found) for way in ways)
    assert all(other == plain for other in others)


EVERY_KIND = pytest.mark.parametrize("name", [*KINDS, *BPE, "across"])


def test_which_tokenizers_are_cut_the_short_way() -> None:
    """Excluded: tokenizers that add spaces around Chinese letters, like BERT's, and those whose tokens contain
    spaces."""
    others = [name for name in [*KINDS, *BPE, "across"] if parts_at_spaces(made(name)) is None]
    assert others == ["wordpiece", "across"]
    assert parts_at_spaces(None) is parts_at_spaces(object()) is None


@pytest.mark.slow
@EVERY_KIND
def test_the_hostile_set_is_cut_alike(name: str) -> None:
    ways = kept(name, 9, 0)
    for number, text in enumerate(ALL[::3]):
        if len(text) < 2000:
            check_alike(ways, [(text[:20], text)])
            limit = 3 + number % 40
            neutral = neutralise(text)
            assert ways[0].fit(neutral, limit) == ways[1].fit(neutral, limit) == ways[2].fit(neutral, limit)


@pytest.mark.slow
@EVERY_KIND
def test_long_texts_are_cut_alike_at_every_limit(name: str) -> None:
    promised, short, plain = kept(name, 400, 0)
    for text in LONG:
        for limit in [*range(1, 30), 64, 100]:
            assert promised.fit(text, limit) == short.fit(text, limit) == plain.fit(text, limit)


@pytest.mark.slow
@EVERY_KIND
@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(ANY, st.one_of(ANY, st.lists(st.sampled_from([*WORDS, *LONG]), min_size=5).map(" ".join))), max_size=5
    ),
    st.sampled_from([(1, 0), (7, 15), (30, 40), (64, 0), (64, 200)]),
)
def test_blocks_are_alike_whatever_the_passages(
    name: str, texts: list[tuple[str, str]], limits: tuple[int, int]
) -> None:
    check_alike(kept(name, *limits), texts)


@pytest.mark.parametrize("engine", [Letters(), Shouting(kind("split"))], ids=["no tokenizer", "an engine of its own"])
def test_engines_that_are_not_their_tokenizer_are_cut_alike(engine: Any) -> None:
    for limits in ((7, 0), (30, 40)):
        check_alike(both(engine, *limits), [(text[:10], text) for text in LONG[:5]])


@pytest.mark.parametrize("name", ["tags", "qwen", "unigram"])
def test_a_passage_is_encoded_once_and_twice_if_it_is_cut(name: str) -> None:
    engine = Counting(made(name))
    blocks, _ = both(engine, 64, 200)
    engine.asked.clear()
    whole = Passage("a", "Ada", " ".join(WORDS[:6]), 1.0)
    for _ in range(3):
        blocks.render([whole])
    assert engine.asked.total() == 1
    blocks.render([Passage("b", "Ada", LONG[0], 1.0)])
    assert engine.asked.total() == 3 and max(engine.asked.values()) == 1
