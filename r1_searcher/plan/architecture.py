"""A decoder's size from its configuration: parameters, cache bytes per token, activations per layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.params import BaseModelParams, Lora
from r1_searcher.texts import parse_json


@dataclass(frozen=True)
class Architecture:
    """A decoder of the Qwen2 or Llama kind: grouped-query attention, gated feed-forward, RMS norms."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    tied: bool  # the output head is the embedding
    qkv_bias: bool  # queries, keys and values have a bias (Qwen2)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: attention, feed-forward, two norms."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (2 * queries + 2 * keys) + self.qkv_bias * (queries + 2 * keys)
        return attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden

    @property
    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear layer of one decoder layer, by transformers' name."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.feed_forward),
            "up_proj": (self.hidden, self.feed_forward),
            "down_proj": (self.feed_forward, self.hidden),
        }

    def adapted(self, lora: Lora) -> list[tuple[int, int]]:
        """Return those of one decoder layer that get an adapter; none at rank 0."""
        if not lora.rank:
            return []
        return [
            shape for name, shape in self.linear_layers.items() if lora.targets == "all-linear" or name in lora.targets
        ]

    def adapter_parameters(self, lora: Lora) -> int:
        """Return the parameters of all adapters: rank × (inputs + outputs) per adapted layer."""
        return self.layers * lora.rank * sum(inputs + outputs for inputs, outputs in self.adapted(lora))

    @property
    def parameters(self) -> int:
        """All parameters, counting a tied head once."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * self.layer_parameters + self.hidden

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


def _known(name: str, *figures: int, tied: bool, qkv_bias: bool) -> Architecture:
    layers, hidden, heads, kv_heads, head_dim, feed_forward, vocabulary = figures
    return Architecture(
        name, layers, hidden, heads, kv_heads, head_dim, feed_forward, vocabulary, tied=tied, qkv_bias=qkv_bias
    )


# From each model's published config.json (layers, hidden, heads, key-value heads, head size, feed-forward, rows of the
# embedding). A test compares their sums with the published numbers of parameters.
KNOWN = {
    "qwen2.5-0.5b": _known("Qwen2.5-0.5B", 24, 896, 14, 2, 64, 4864, 151936, tied=True, qkv_bias=True),
    "qwen2.5-3b": _known("Qwen2.5-3B", 36, 2048, 16, 2, 128, 11008, 151936, tied=True, qkv_bias=True),
    "qwen2.5-7b": _known("Qwen2.5-7B", 28, 3584, 28, 4, 128, 18944, 152064, tied=False, qkv_bias=True),
    "llama-3.1-8b": _known("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256, tied=False, qkv_bias=False),
    "smollm2-135m": _known("SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49152, tied=True, qkv_bias=False),
}
# model_type: whether queries, keys and values have a bias
_BIASED_QKV = {"qwen2": True, "llama": False, "mistral": False}


def of_config(config: Mapping[str, Any], where: str) -> Architecture:
    """Return the architecture that a config.json describes. Raises ``PipelineError`` for another kind or a missing
    figure."""
    kind = config.get("model_type")
    if kind not in _BIASED_QKV:
        raise PipelineError(
            f"cannot plan a model of type {kind!r}", where=where, fix=f"known: {', '.join(_BIASED_QKV)}"
        )
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return Architecture(
            name=where,
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            feed_forward=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=_BIASED_QKV[str(kind)],
        )
    except KeyError as error:
        raise PipelineError(f"config.json has no {error.args[0]}", where=where) from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise PipelineError(f"config.json has a figure that is none: {error}", where=where) from None


def of_source(base_model: BaseModelParams, model: Path | None = None) -> Architecture:
    """Return the architecture of ``base_model.source``, or of the folder ``model``.

    A folder is read, the tiny model is in the parameters, and a hub name is looked up among the known base models (an
    ``-instruct`` has its base's size).
    """
    source = str(model) if model else base_model.source
    if source == "tiny":
        tiny = base_model.tiny
        return Architecture(
            "tiny", tiny.layers, tiny.hidden, tiny.heads, tiny.kv_heads, tiny.hidden // tiny.heads, tiny.feed_forward,
            tiny.vocabulary, tied=True, qkv_bias=True,
        )  # fmt: skip
    if model or Path(source).is_dir():
        return _of_folder(Path(source))
    name = Path(source).name.lower().replace("qwen-2.5", "qwen2.5").replace("llama3.1", "llama-3.1")
    found = next((known for key, known in KNOWN.items() if name == key or name.startswith(f"{key}-")), None)
    if found is None:
        raise PipelineError(
            f"the size of {source!r} is not known here",
            where="base_model.source",
            fix=f"give --model FOLDER with its config.json; known by name: {', '.join(KNOWN)}",
        )
    return found


def _of_folder(folder: Path) -> Architecture:
    file = folder / "config.json"
    try:
        config = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelineError(f"cannot be read: {error.strerror}", where=str(file), fix="give a model folder") from None
    except ValueError as error:
        raise PipelineError(f"not JSON: {error}", where=str(file)) from None
    if not isinstance(config, dict):
        raise PipelineError("holds no configuration", where=str(file))
    return of_config(config, str(file))
