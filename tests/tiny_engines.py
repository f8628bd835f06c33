"""Tiny policies that both engines can open (vLLM wants heads of 32), and those engines."""

from __future__ import annotations

import copy
import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from tiny_policy import forward_logprobs, rollout_params, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from r1_searcher import params
from r1_searcher.rollout import load_engine
from r1_searcher.rollout.prompt import load_prompt
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Engine

# Three hidden channels are not random: one is the same for every token, so that a head's weight on it is a bias; one is
# set where a turn begins, and one where a query does. After the norm they are about 3.
STEADY, TURN_BEGINS, QUERY_BEGINS = 0, 1, 2
FAMILIES: dict[str, tuple[Any, Any]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
BIASES = {grammar.QUERY: 0.3, grammar.END_QUERY: 1.6, grammar.END_ANSWER: 0.9, "<|endoftext|>": 0.7}


def write_policy(
    folder: Path,
    *,
    family: str = "qwen2",
    tied: bool = False,
    tags_are_tokens: bool = True,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    max_shard_size: str = "5GB",
) -> Path:
    """Make random weights that search often if tags are tokens; returns the folder."""
    names = tokenizer(tags_are_tokens)
    config_class, model_class = FAMILIES[family]
    config = config_class(
        vocab_size=len(names),
        hidden_size=hidden,
        intermediate_size=3 * hidden // 2,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=0.2 if tags_are_tokens else 0.25,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=names.eos_token_id,
        pad_token_id=names.eos_token_id,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = model_class(config)
        for name, tensor in model.named_parameters():
            if name.endswith("bias"):
                tensor.normal_(0, 0.1)  # a bias of 0 would hide a loader that forgets it
        model.model.embed_tokens.weight.normal_(0, 1)
        if tied:
            model.model.norm.weight.mul_(0.3)  # an embedding used as the head is too confident
        if tags_are_tokens:
            _give_taste(model, names)
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    names.save_pretrained(folder)
    return folder


def _give_taste(model: Any, names: Any) -> None:
    """Make it likely that a turn contains a query of some words, and possible that it answers or just ends."""
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.mul_(0.25)
        layer.mlp.down_proj.weight.mul_(0.25)
    ids = {tag: names.encode(tag, add_special_tokens=False)[0] for tag in BIASES}
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    embedding[:, : QUERY_BEGINS + 1] = 0.0
    embedding[:, STEADY] = 3.0
    beginnings = [load_prompt("short").render("Who?", None), grammar.render_documents(["Ada."])]
    embedding[[names.encode(text, add_special_tokens=False)[-1] for text in beginnings], TURN_BEGINS] = 3.0
    embedding[ids[grammar.QUERY], QUERY_BEGINS] = 3.0
    head[:, : QUERY_BEGINS + 1] = 0.0
    for tag, bias in BIASES.items():
        head[ids[tag], STEADY] = bias
    head[ids[grammar.QUERY], TURN_BEGINS] = 4.5
    head[ids[grammar.END_QUERY], QUERY_BEGINS] = -1.5


def settings(engine: str, **changes: Any) -> params.Rollout:
    """Return a ``rollout`` section for trajectories of 300 tokens; vLLM's has four at a time."""
    base = rollout_params()
    vllm = base.vllm.model_copy(
        update={"max_num_seqs": 4, "max_num_batched_tokens": 64, "cpu_cache_gb": 0.1} | changes.pop("vllm", {})
    )
    room: dict[str, Any] = {"max_total_tokens": 300, "max_turn_tokens": 40}
    return base.model_copy(update={"engine": engine, "vllm": vllm} | room | changes)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="policies-")


@functools.cache
def policy(name: str) -> Path:
    """Make a policy of the contract: qwen2 with an untied head and tags as tokens, or llama with neither."""
    folder = Path(_folder().name) / name
    return write_policy(folder, family=name, tied=name == "llama", tags_are_tokens=name == "qwen2")


@functools.cache
def engine_of(kind: str, name: str) -> Engine:
    """Return the engine ``kind`` on ``policy(name)``, started once; whoever loads other weights must reload these."""
    return load_engine(policy(name), settings(kind))


@functools.cache
def _reference(folder: Path) -> Any:
    return load_engine(folder, settings("transformers"))


def true_row(folder: Path, token_ids: list[int], temperature: float) -> list[float]:
    """Return (V,) log-probabilities of the next token."""
    logits = copy.deepcopy(_reference(folder)._model).double()(input_ids=torch.tensor([token_ids])).logits[0, -1]
    return [float(value) for value in (logits / temperature).log_softmax(-1)]


def true_logprobs(folder: Path, token_ids: list[int], temperature: float) -> list[float]:
    """Return (T,) log-probabilities by a plain forward of transformers in float64, for the weights of a folder;
    temperature 0 is 1."""
    return [float(value) for value in forward_logprobs(_reference(folder), token_ids, temperature or 1.0)]
