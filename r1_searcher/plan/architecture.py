"""A decoder's size: its parameters, counted on the model that transformers builds on the meta device (without memory),
cache bytes per token, activations per layer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.model_folders import load_config, reading
from r1_searcher.params import BaseModelParams, Lora


@dataclass(frozen=True)
class Architecture:
    """A causal language model of attention and (gated) feed-forward layers, with or without experts."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int  # intermediate width per token: of all its experts together, if any
    vocabulary: int
    tied: bool  # the output head shares the embedding's weights
    parameters: int  # counting a tied head once
    active: int  # parameters active per token: without the experts not chosen for it
    linear: tuple[tuple[str, int, int], ...]  # per linear layer except the head: last part of its name, inputs, outputs
    config: Any  # transformers' name

    def adapted(self, lora: Lora) -> list[tuple[int, int]]:
        """Return inputs and outputs of the linear layers with an adapter; none at rank 0."""
        chosen = lora.rank and [one for one in self.linear if lora.targets == "all-linear" or one[0] in lora.targets]
        return [(inputs, outputs) for _, inputs, outputs in chosen or ()]

    def adapter_parameters(self, lora: Lora) -> int:
        """Return the parameters of all adapters: rank × (inputs + outputs) per adapted layer."""
        return lora.rank * sum(inputs + outputs for inputs, outputs in self.adapted(lora))

    def cache_bytes(self, width: int) -> int:
        """Return the bytes of one token's keys and values in all layers, at ``width`` bytes per number."""
        return 2 * self.layers * self.kv_heads * self.head_dim * width

    def layer_activations(self, width: int) -> int:
        """Return the bytes per token that one layer keeps for its backward pass, with a fused attention kernel.

        Inputs, outputs and normed values around the two norms (6 hidden), queries and keys before and after rotation,
        values, the attention's output, and four arrays of the feed-forward's width.
        """
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return width * (6 * self.hidden + 2 * (queries + keys) + keys + queries + 4 * self.feed_forward)


_FIGURES = (
    "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "vocab_size", "tie_word_embeddings",
)  # fmt: skip
# From each model's published config.json: its type and these figures. A test compares the counts with the published
# numbers of parameters.
KNOWN = {
    "qwen2.5-0.5b": ("qwen2", 24, 896, 14, 2, 4864, 151936, True),
    "qwen2.5-3b": ("qwen2", 36, 2048, 16, 2, 11008, 151936, True),
    "qwen2.5-7b": ("qwen2", 28, 3584, 28, 4, 18944, 152064, False),
    "llama-3.1-8b": ("llama", 32, 4096, 32, 8, 14336, 128256, False),
    "smollm2-135m": ("llama", 30, 576, 9, 3, 1536, 49152, True),
}


@functools.cache
def known(key: str) -> Architecture:
    """Return the architecture of a model of ``KNOWN``."""
    kind, *figures = KNOWN[key]
    return _of_figures(key, str(kind), figures)


def of_config(config: Any, name: str) -> Architecture:
    """Return the architecture of transformers' ``config``. Raises ``PipelineError`` for a model without attention."""
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    with reading("model to plan", name):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        config = config.get_text_config()
        heads, total = config.num_attention_heads, model.num_parameters()
        chosen = getattr(config, "num_experts_per_tok", None) or 1
        experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None) or chosen
        in_experts = sum(weight.numel() for part, weight in model.named_parameters() if ".experts." in part)
        head = model.get_output_embeddings()
        return Architecture(
            name=name,
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            feed_forward=chosen * (getattr(config, "moe_intermediate_size", None) or config.intermediate_size),
            vocabulary=config.vocab_size,
            tied=bool(config.tie_word_embeddings),
            parameters=total,
            active=total - in_experts * (experts - chosen) // experts,
            linear=tuple(
                (part.rpartition(".")[2], module.in_features, module.out_features)
                for part, module in model.named_modules()
                if type(module) is nn.Linear and module is not head
            ),
            config=config,
        )


def of_source(base_model: BaseModelParams, model: Path | None = None) -> Architecture:
    """Return the architecture of ``base_model.source``, or of the folder ``model``.

    A folder is read, the tiny model is in the parameters, and a hub name is looked up among the known base models (an
    ``-instruct`` has its base's size).
    """
    source = str(model) if model else base_model.source
    if source == "tiny":
        tiny = base_model.tiny
        figures = (tiny.layers, tiny.hidden, tiny.heads, tiny.kv_heads, tiny.feed_forward, tiny.vocabulary, True)
        return _of_figures(source, "qwen2", figures)
    if model or Path(source).is_dir():
        return of_config(load_config(Path(source)), source)
    name = Path(source).name.lower().replace("qwen-2.5", "qwen2.5").replace("llama3.1", "llama-3.1")
    found = next((key for key in KNOWN if name == key or name.startswith(f"{key}-")), None)
    if found is None:
        raise PipelineError(
            f"the size of {source!r} is not known here",
            where="base_model.source",
            fix=f"give --model FOLDER with its config.json; known by name: {', '.join(KNOWN)}",
        )
    return known(found)


def _of_figures(name: str, kind: str, figures: Sequence[object]) -> Architecture:
    from transformers import AutoConfig

    return of_config(AutoConfig.for_model(kind, **dict(zip(_FIGURES, figures, strict=True))), name)
