"""Tiny random models of many kinds, as policy folders, with the tests' tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_policy import tokenizer

WINDOW = 48
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
# name -> configuration class of transformers, and its particular settings
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2": ("Qwen2Config", {}),
    "Qwen3": ("Qwen3Config", {"head_dim": 16}),
    "Llama": ("LlamaConfig", {"attention_bias": True}),
    "Mistral": ("MistralConfig", {"sliding_window": WINDOW}),
    "Gemma 1": ("GemmaConfig", {"head_dim": 16}),
    "Gemma 2": (
        "Gemma2Config",
        {"head_dim": 16, "sliding_window": WINDOW, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "Gemma 3": (
        "Gemma3TextConfig",
        {"head_dim": 16, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "Phi-3": ("Phi3Config", {"sliding_window": WINDOW}),
    "OLMo 2": ("Olmo2Config", {}),
    "SmolLM3": ("SmolLM3Config", {}),
    "GLM-4": ("Glm4Config", {"head_dim": 16}),
    "GPT-NeoX": ("GPTNeoXConfig", {"hidden_dropout": 0.1, "attention_dropout": 0.1}),
    # Kinds that are not on the known-good list, each with a peculiarity.
    "Starcoder2": (
        "Starcoder2Config",
        {"sliding_window": WINDOW, "residual_dropout": 0.1, "embedding_dropout": 0.1, "attention_dropout": 0.1},
    ),
    "OPT": ("OPTConfig", {"dropout": 0.1, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "Granite": ("GraniteConfig", {"logits_scaling": 8.0, "embedding_multiplier": 2.0}),
    "Cohere": ("CohereConfig", {"logit_scale": 0.25}),
    "StableLM": ("StableLmConfig", {}),
    "gpt-oss": ("GptOssConfig", {"head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1}),
}


def write_kind(folder: Path, kind: str, **changes: Any) -> Path:
    """Make a random model of ``kind`` (``changes`` to its configuration), sharp enough that probabilities differ."""
    import transformers

    names = tokenizer(True)
    class_name, own = KINDS[kind]
    values: dict[str, Any] = {
        "vocab_size": len(names),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "initializer_range": 0.25,
        "bos_token_id": None,
        "eos_token_id": names.eos_token_id,
        "pad_token_id": names.eos_token_id,
    }
    config = getattr(transformers, class_name)(**values | own | changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for name, weight in model.named_parameters():
            if name.endswith("bias"):  # 0 would hide code that forgets it
                torch.nn.init.normal_(weight, 0.0, 0.1)
        model.save_pretrained(folder)
    names.save_pretrained(folder)
    return folder
