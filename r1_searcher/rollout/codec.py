"""Encode and decode exactly as a transformers tokenizer does, without the overhead around its library.

transformers' ``encode`` builds a list and a dictionary of everything that the library ``tokenizers`` reports, and its
``decode`` checks every id: a third of a rollout's time on text. If the wrapper does nothing else, the library is called
directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Codec:
    """One tokenizer's ``encode`` and ``decode``; special tokens are neither added nor removed.

    An engine with a ``codec`` promises to make the same tokens from a text. ``library``: the library's tokenizer, if it
    alone makes them.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.library = library_of(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return a text's tokens, (N,)."""
        if self.library is None:
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        ids: list[int] = self.library.encode_batch_fast([text], add_special_tokens=False)[0].ids  # without offsets
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens (N,)."""
        if self.library is None:
            plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
            return str(self._tokenizer.decode(token_ids, **plain))
        return str(self.library.decode(list(token_ids), skip_special_tokens=False))


def library_of(tokenizer: Any) -> Any | None:
    """Return the ``tokenizers.Tokenizer`` within, if its encode and decode are all that ``tokenizer`` does; else None.

    None if the tokenizer's class overrides encode or decode, or does not use that library. Truncation and padding that
    a saved tokenizer asks for are switched off for good, as transformers does at each call.
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
