"""A byte-level BPE tokenizer trained on the library, as Qwen2's is, with the tags as added tokens.

Lossless: decoding gives the text back byte for byte, whatever the text. Words carry their leading
space, as everywhere in the library, so that a name is the same tokens wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stages.contract import grammar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
# Numbers stay whole (a year is one token), "(1)" is one word, line breaks are words of their own.
WORDS = r"\(\d+\)|\n+| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"


def train_tokenizer(texts: Iterable[str], vocabulary: int, *, tags_are_tokens: bool = True) -> PreTrainedTokenizerFast:
    """Train on ``texts``; ``vocabulary`` counts bytes, merges, tags and the end-of-text token.

    With ``tags_are_tokens`` false a tag is several tokens, as in Qwen's and Llama's tokenizers.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [*grammar.TAGS] if tags_are_tokens else []
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(added),
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in added])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
