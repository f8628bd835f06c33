"""Tiny random policies and scripted ones, for the tests of rollout and base model.

Everything is made once a session and kept (``functools.cache``): a tokenizer with the tags as tokens
and one that splits them, and a random Qwen2 model that writes tags often enough to search.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from stages.base_model.tokenizer import train_tokenizer
from stages.contract import grammar, params, schemas
from stages.contract.protocols import Passage, RetrieverError
from stages.rollout.engine import TransformersEngine

ROOT = Path(__file__).resolve().parents[1]
WORDS = "Ada Kolm was born in Trabo and made Silent Harbor , a film of 1931 about the river".split()
# A tag and what follows it in one token, as in Qwen's tokenizer, wherever the tags are not tokens themselves.
GLUED_QUERY, GLUED_ANSWER = f"{grammar.END_QUERY}?!", f"{grammar.END_ANSWER}..."


def params_with(**changes: Any) -> params.Params:
    """params.yaml with some values changed, by their dotted names with ``__`` for the dot."""
    import yaml

    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, value in changes.items():
        *sections, key = name.split("__")
        place = raw
        for section in sections:
            place = place[section]
        assert key in place, name
        place[key] = value
    return params.check(raw)


def rollout_params(**changes: Any) -> params.Rollout:
    """A ``rollout`` section with room for some searches."""
    values: dict[str, Any] = {
        "engine": "transformers",
        "prompt": "short",
        "passages": "text",
        "k": 2,
        "max_searches": 3,
        "max_turn_tokens": 40,
        "max_total_tokens": 400,
        "max_passage_tokens": 30,
        "max_batch": 100,
        "max_error_share": 0.2,
        "dtype": "float32",
        "temperature": 1.0,
        "top_p": 1.0,
    }
    return params_with().rollout.model_copy(update=values | changes)


@functools.cache
def tokenizer(tags_are_tokens: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; without tags as tokens, one of its tokens ends a tag and goes on."""
    texts = [" ".join(WORDS), *([f"{GLUED_QUERY} {GLUED_ANSWER}"] * 9), " ".join(grammar.TAGS)] * 4
    made = train_tokenizer(texts, 420 if tags_are_tokens else 380, tags_are_tokens=tags_are_tokens)
    assert (len(made.encode(grammar.QUERY)) == 1) == tags_are_tokens
    return made


def random_model(tags_are_tokens: bool = True, seed: int = 0) -> Qwen2ForCausalLM:
    """A 2-layer Qwen2 with random weights, sharp enough that probabilities differ, and with a bias in
    the head: tags that are tokens, and the end of the text, come up every few tokens."""
    names = tokenizer(tags_are_tokens)
    config = Qwen2Config(
        vocab_size=len(names),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.25,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=names.eos_token_id,
        pad_token_id=names.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config).eval()
        head = torch.nn.Linear(config.hidden_size, config.vocab_size)
        head.weight.data.copy_(model.lm_head.weight.data)
        head.bias.data.zero_()
        wanted = {grammar.QUERY: 3.5, grammar.END_QUERY: 4.5, grammar.END_ANSWER: 2.0, names.eos_token: 1.0}
        for tag, bias in wanted.items():
            ids = names.encode(tag, add_special_tokens=False)
            if len(ids) == 1:
                head.bias.data[ids[0]] = bias
        model.lm_head = head
    return model


@functools.cache
def random_engine(tags_are_tokens: bool = True) -> TransformersEngine:
    """The transformers engine on ``random_model``."""
    return TransformersEngine(random_model(tags_are_tokens), tokenizer(tags_are_tokens))


@torch.inference_mode()
def forward_logprobs(engine: TransformersEngine, token_ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """(T,) log-probability of every token given those before it by one plain forward; the first is 0."""
    model: Any = engine._model
    ids = torch.tensor([token_ids])
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float() / temperature
    found = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    return torch.cat([torch.zeros(1), found])


def questions_table(questions: Sequence[str]) -> pa.Table:
    """Questions q0, q1, … (schema QUESTIONS)."""
    rows = [
        {"question_id": f"q{number}", "question": question, "answers": ["Trabo"], "dataset": "test", "kind": "test"}
        for number, question in enumerate(questions)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


class ScriptedRetriever:
    """Finds what ``find`` says of a query; fails on queries that hold "fail". Notes every call."""

    fingerprint = "scripted"

    def __init__(self, find: Callable[[str], Iterable[str]] | None = None) -> None:
        self.find = find or (lambda query: [f"{query} was born in Trabo.", "Ada made Silent Harbor."])
        self.calls: list[list[str]] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.calls.append(list(queries))
        if any("fail" in query for query in queries):
            raise RetrieverError("the search server is down")
        return [
            [Passage(f"p{place}", f"Title {place}", text, 9.0 - place) for place, text in enumerate(self.find(query))][
                :k
            ]
            for query in queries
        ]
