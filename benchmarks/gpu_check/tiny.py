"""Tiny policies in folders of their own: random weights, and a tokenizer that is made here."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from r1_searcher.models.tokenizer import train_tokenizer
from r1_searcher.transcripts import grammar

FAMILIES = ("qwen2", "llama")
_WORDS = "Ada Kolm was born in Trabo and made Silent Harbor , a film of 1931 about the river".split()


@functools.cache
def _names() -> Any:
    return train_tokenizer([" ".join(_WORDS), " ".join(grammar.TAGS)] * 4, 440)


def write_policy(folder: Path, family: str, *, hidden: int = 64, seed: int = 0) -> Path:
    """Write a two-layer model, sharp enough that tokens differ; a Llama's head is tied. Return the folder."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    names = _names()
    kinds: dict[str, tuple[Any, Any]] = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }
    config_class, model_class = kinds[family]
    config = config_class(
        vocab_size=len(names),
        hidden_size=hidden,
        intermediate_size=3 * hidden // 2,
        num_hidden_layers=2,
        num_attention_heads=hidden // 32,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=family == "llama",
        bos_token_id=None,
        eos_token_id=names.eos_token_id,
        pad_token_id=names.eos_token_id,
    )
    torch.manual_seed(seed)
    model_class(config).save_pretrained(folder)
    names.save_pretrained(folder)
    return folder
