"""Open a policy for the trainer: weights checked against the configuration, and nothing random in the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from r1_searcher import model_folders
from r1_searcher.errors import PipelineError
from r1_searcher.files.weights import check_policy
from r1_searcher.params import Update
from r1_searcher.update import attention, distributed
from r1_searcher.update.partitioned import load_partitioned

COPIED_FILES = (  # a new policy inherits these files from its parent unchanged
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "generation_config.json",
)


def load_model(policy: Path, update: Update, *, trained: bool) -> Any:
    """Load the causal language model of a Hugging Face folder, without dropout; under ZeRO 3 divided among the ranks.

    ``trained``: false for a frozen model, which is whole on every rank. Raises ``PipelineError`` for a folder without
    config, weights or tokenizer, and for weights that do not match its config exactly.
    """
    if not policy.is_dir():
        raise PipelineError("no such policy folder", where=str(policy), fix="run `dvc repro`, which makes it")
    model_folders.check_tokenizer(policy)
    attending = attention.implementation(update, model_folders.load_config(policy))
    if trained and update.zero_stage == 3:
        check_policy(policy)
        with model_folders.reading("model", policy):
            model = load_partitioned(policy, update.dtype, attending, distributed.config(update))
    else:
        model = model_folders.load_model(policy, dtype=update.dtype, attn_implementation=attending)
    return quiet(model, checkpointing=trained and update.gradient_checkpointing) if trained else _frozen(model)


def quiet(model: Any, *, checkpointing: bool) -> Any:
    """Make a model behave in training as in sampling: no dropout, no skipped layers, no noise.

    It stays in evaluation mode. transformers recomputes layers only in training mode: with ``checkpointing`` the layers
    themselves are set to it, but not their submodules, and their own dropout is 0.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if ("dropout" in name or "layerdrop" in name) and isinstance(value, float):
                setattr(module, name, 0.0)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.training = True
    return model


def _frozen(model: Any) -> Any:
    return quiet(model, checkpointing=False).requires_grad_(False)
