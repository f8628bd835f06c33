"""A tiny random Qwen2 policy and made-up rollouts for the tests of the update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from r1_searcher.params import Update
from r1_searcher.transcripts import grammar
from r1_searcher.types import schemas
from r1_searcher.types.protocols import TrainingBatch

VOCABULARY = 97


def update_params(**changes: Any) -> Update:
    """Return an ``update`` section: two minibatches, two or more passes each, no correction."""
    values: dict[str, Any] = {
        "layout": "padded",
        "estimator": "reinforce++",
        "loss": "ppo",
        "trainer": "deepspeed",
        "clip": 0.2,
        "kl_coefficient": 0.0,
        "loss_mean": "token",
        "importance_cap": 0.0,
        "flat_groups": "kept",
        "overlong": "kept",
        "minibatches": 2,
        "max_tokens_a_pass": 64,
        "max_gradient_norm": 1.0,
        "weight_decay": 0.0,
        "betas": (0.9, 0.95),
        "dtype": "float32",
        "zero_stage": 0,
        "offload": "none",
        "gradient_checkpointing": False,
        "lora": {"rank": 0, "alpha": 32, "targets": "all-linear"},
    }
    return Update(**(values | changes))


def make_policy(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a Hugging Face folder: 2-layer Qwen2 (``changes`` to its config), random weights, a word-level
    tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,  # sharp enough that probabilities differ
        "tie_word_embeddings": True,
    }
    config = Qwen2Config(**sizes | changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)
    return folder


def make_rollouts(num_questions: int = 4, samples: int = 4, *, seed: int = 0) -> pa.Table:
    """Make prompt, policy, document and policy tokens of random length and content; log-probabilities near uniform."""
    generator = np.random.default_rng(seed)
    rows = []
    for question in range(num_questions):
        prompt = generator.integers(0, VOCABULARY, 3 + question).tolist()
        for sample in range(samples):
            lengths = [len(prompt), *generator.integers(1, 8, 3).tolist()]
            authors = [grammar.PROMPT, grammar.POLICY, grammar.DOCUMENT, grammar.POLICY]
            sources = np.repeat(authors, lengths).tolist()
            rest = generator.integers(0, VOCABULARY, sum(lengths[1:])).tolist()
            rows.append(
                {
                    "trajectory_id": f"q{question}#{sample}",
                    "question_id": f"q{question}",
                    "sample": sample,
                    "question": "?",
                    "answers": ["a"],
                    "prompt": "p",
                    "token_ids": prompt + rest,
                    "token_source": sources,
                    "policy_logprobs": generator.normal(-4.5, 0.5, lengths[1] + lengths[3]).tolist(),
                    "turns": [],
                    "segments": [],
                    "text": "t",
                    "answer": None,
                    "finish_reason": grammar.FINISH_ANSWER,
                    "seed": sample,
                }
            )
    return pa.Table.from_pylist(rows, schema=schemas.ROLLOUTS)


def make_rewards(rollouts: pa.Table, totals: list[float] | None = None, uncounted: tuple[str, ...] = ()) -> pa.Table:
    """Make rewards for the rollouts, by default 0, 1, 0, 1, …; ``uncounted`` trajectories do not count."""
    ids = rollouts["trajectory_id"].to_pylist()
    totals = [float(row % 2) for row in range(len(ids))] if totals is None else totals
    rows = [
        {
            "trajectory_id": name,
            "question_id": name.partition("#")[0],
            "total": total,
            **dict.fromkeys(("retrieval", "format", "answer", "em", "f1", "cover_em"), 0.0),
            "violations": [],
            "format_right": True,
            **dict.fromkeys(("num_searches", "num_policy_tokens", "num_tokens"), 1),
            "counted": name not in uncounted,
        }
        for name, total in zip(ids, totals, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.REWARDS)


def make_batch(rollouts: pa.Table, *, seed: int = 0) -> TrainingBatch:
    """Return the rollouts with random advantages."""
    generator = np.random.default_rng(seed)
    logprobs = rollouts["policy_logprobs"].to_pylist()
    return TrainingBatch(
        token_ids=rollouts["token_ids"].to_pylist(),
        policy_mask=[[source == grammar.POLICY for source in row] for row in rollouts["token_source"].to_pylist()],
        advantages=[generator.normal(0, 1, len(row)).tolist() for row in logprobs],
        old_logprobs=logprobs,
        trajectory_ids=rollouts["trajectory_id"].to_pylist(),
    )
