"""Text to tokens and back, as a tokenizer of transformers does it, without what it wraps around its library.

Its ``encode`` has a list and a dictionary made of everything that the library ``tokenizers`` could tell, and its
``decode`` looks at every number: a third of the time of a rollout's text. Where nothing else happens there, the
library is asked for the tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Codec:
    """One tokenizer's ``encode`` and ``decode``, special tokens neither added nor left out.

    An engine that has one as its ``codec`` promises that it makes the same tokens of a text. ``library``: what makes
    them, where that is known to be all.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.library = library_of(tokenizer)

    def encode(self, text: str) -> list[int]:
        """A text's tokens, (N,)."""
        if self.library is None:
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        ids: list[int] = self.library.encode_batch_fast([text], add_special_tokens=False)[0].ids  # without offsets
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens (N,)."""
        if self.library is None:
            plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
            return str(self._tokenizer.decode(token_ids, **plain))
        return str(self.library.decode(list(token_ids), skip_special_tokens=False))


def library_of(tokenizer: Any) -> Any | None:
    """The ``tokenizers.Tokenizer`` within, if its own encode and decode are all that ``tokenizer`` does; else None.

    They are not where a kind of tokenizer has an encode or decode of its own, or is not of that library at all. What a
    saved tokenizer says of cutting and padding is put aside for good, as transformers does at each call.
    """
    library = getattr(tokenizer, "backend_tokenizer", None)
    if library is None or not hasattr(library, "encode_batch_fast"):
        return None
    from transformers import PreTrainedTokenizerFast as Plain

    steps = ("encode", "_encode_plus", "decode", "_decode")
    if any(getattr(type(tokenizer), step, None) is not getattr(Plain, step, tokenizer) for step in steps):
        return None
    tokenizer.encode("", add_special_tokens=False)
    return library
