"""A codec makes its tokenizer's tokens and texts, by the short way only if that is equivalent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_blocks import EVERY_KIND, LONG, made
from test_documents import ALL, ANY
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from r1_searcher.rollout.codec import Codec, library_of
from r1_searcher.transcripts import grammar


def check_alike(names: Any, text: str) -> None:
    codec = Codec(names)
    ids = names.encode(text, add_special_tokens=False)
    assert codec.encode(text) == ids
    read = names.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert codec.decode(ids) == codec.decode(tuple(ids)) == read


@EVERY_KIND
def test_hostile_and_long_texts(name: str) -> None:
    assert library_of(made(name)) is not None
    for text in [*ALL[::20], *LONG, *grammar.TAGS, "", " ", "\n\n", "a  b", "<|endoftext|>x"]:
        check_alike(made(name), text)


@EVERY_KIND
@settings(deadline=None, max_examples=12)
@given(st.lists(st.one_of(ANY, st.sampled_from(grammar.TAGS)), max_size=4))
def test_any_text(name: str, parts: list[str]) -> None:
    # no tokenizer accepts half a pair
    check_alike(made(name), "".join(parts).encode("utf-8", "replace").decode("utf-8"))


def test_a_tokenizer_that_was_saved_while_it_cut_and_padded(tmp_path: Path) -> None:
    names = made("qwen")
    names.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    saved.backend_tokenizer.enable_truncation(3)
    saved.backend_tokenizer.enable_padding(length=50)
    saved.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    codec = Codec(AutoTokenizer.from_pretrained(tmp_path))
    assert codec.library is not None and codec.encode(LONG[0]) == names.encode(LONG[0], add_special_tokens=False)


class Shouting(PreTrainedTokenizerFast):  # type: ignore[misc]  # transformers is not followed
    """A kind of tokenizer with its own encode."""

    def encode(self, text: Any, *given: Any, **named: Any) -> list[int]:
        found: list[int] = super().encode(text.upper(), *given, **named)
        return found


class Whispering(PreTrainedTokenizerFast):  # type: ignore[misc]
    """And one with its own decode."""

    def _decode(self, *given: Any, **named: Any) -> str:
        return str(super()._decode(*given, **named).lower())


@pytest.mark.parametrize("kind", [Shouting, Whispering])
def test_a_kind_of_its_own_is_asked_itself(kind: type[PreTrainedTokenizerFast]) -> None:
    names = kind(tokenizer_object=made("qwen").backend_tokenizer)
    assert library_of(names) is None
    check_alike(names, "Ada Kolm")
    read = "ADA KOLM" if kind is Shouting else "Ada Kolm"
    assert Codec(names).encode("Ada Kolm") == Codec(made("qwen")).encode(read)
    assert library_of(None) is library_of(object()) is None
