"""The tiny model's tokenizer: Qwen2's own class and rules, with a vocabulary trained on the library.

It must be Qwen2's class: transformers' ``AutoTokenizer`` gives every Qwen2 folder that class, whatever pre-tokenizer
the folder names; another one would train well and then be silently replaced when the folder is opened.

Qwen2 splits numbers into digits, which would make a year five tokens. So tags, years and passage numbers are added
tokens. Words include their leading space, as everywhere in the library, so that a name has the same tokens wherever it
occurs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from r1_searcher.corpus.world import YEARS
from r1_searcher.texts import parse_json
from r1_searcher.transcripts import grammar

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

TINY_END_OF_TEXT = "<|endoftext|>"
NUM_PASSAGE_MARKS = 5


def train_tokenizer(texts: Iterable[str], vocabulary: int, *, tags_are_tokens: bool = True) -> Qwen2Tokenizer:
    """Train on ``texts``; ``vocabulary`` counts bytes, merges and added tokens.

    ``tags_are_tokens`` False: a tag is several tokens, as in Qwen's and Llama's own vocabularies.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    added = [f" {year}" for year in YEARS] + [f"({number})" for number in range(1, NUM_PASSAGE_MARKS + 1)]
    if tags_are_tokens:
        added += grammar.TAGS
    draft = Tokenizer(models.BPE())
    draft.normalizer = normalizers.NFC()
    draft.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(added),
        special_tokens=[TINY_END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    apart = re.compile("|".join(map(re.escape, added)))  # no merges are spent on added tokens
    draft.train_from_iterator((apart.sub("", text) for text in texts), trainer)
    trained = parse_json(draft.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=[tuple(merge) for merge in trained["merges"]],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    return tokenizer
