"""A project folder whose stages are real and small: a world, its index, a policy of one layer that searches often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from tiny_policy import params_with, questions_table, rollout_params, tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from r1_searcher import params
from r1_searcher.corpus.world import make_world
from r1_searcher.files.artefacts import write_table
from r1_searcher.files.passages import fingerprint
from r1_searcher.retrieval import build_index
from r1_searcher.transcripts import grammar

STEADY = 3.0  # of one hidden channel, whatever the token: a head's weight on it is a bias


def write_policy_that_searches(folder: Path) -> None:
    """Make one layer of random weights that favours tags, so that rewards differ and an update moves something."""
    names = tokenizer(True)
    config = Qwen2Config(
        vocab_size=len(names),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=False,
        eos_token_id=names.eos_token_id,
        pad_token_id=names.eos_token_id,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
        model.model.embed_tokens.weight[:, 0] = STEADY
        for tag, bias in {grammar.QUERY: 5.0, grammar.END_QUERY: 3.6, grammar.END_ANSWER: 2.0}.items():
            [number] = names.encode(tag, add_special_tokens=False)
            model.lm_head.weight[number, 0] += bias / 4  # after the norm the steady channel is about 4
        model.save_pretrained(folder)
    names.save_pretrained(folder)


def make_project(
    root: Path,
    workers: dict[str, Any],
    *,
    write_policy: Callable[[Path], object] = write_policy_that_searches,
    rollout: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write everything that training reads under ``root``; two iterations of 4 questions × 4 samples.

    ``changes`` are parameters by dotted names with ``__`` for the dot.
    """
    stage = {
        "questions_an_iteration": 4,
        "samples_a_question": 4,
        "evaluate_every": 2,
        "evaluate_questions": 4,
        "checkpoint_every": 1,
        "learning_rate": 5e-3,
    }
    segment = {"stage": "stage1", "prev": "data/base_model", "iterations": 2, "iteration_offset": 0}
    settings = params_with(
        threads=1,
        workers={"place": "inside", "engines": 1, "shards": 1, "ranks": 1, "reference": 0, "ray_address": ""} | workers,
        rollout=rollout_params(max_total_tokens=120, **rollout or {}).model_dump(),
        train__segments={"s1": segment},
        **{f"train__stage1__{name}": value for name, value in stage.items()},
        **changes,
    )
    passages = make_world(params.WorldSize(people=20, films=8, books=8, cities=5), 0).passages()
    write_policy(root / "data/base_model")
    (root / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    write_table(root / "data/corpus/passages.parquet", passages)
    build_index(passages, settings.index, root / "data/index", fingerprint(root / "data/corpus"))
    titles = passages["title"].to_pylist()
    write_table(root / "data/questions/train.parquet", questions_table([f"Who is {title}?" for title in titles[:8]]))
    write_table(root / "data/questions/validation.parquet", questions_table([f"What of {t}?" for t in titles[8:12]]))
    return root
