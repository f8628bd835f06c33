"""Open a policy for the trainer: weights checked against the configuration, and nothing random in the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from r1_searcher.errors import PipelineError
from r1_searcher.files.weights import check_loaded, check_policy, weight_files
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
_TOLD = 300  # characters of transformers' own message in an error
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")  # any one of them is a tokenizer


def load_model(policy: Path, update: Update, *, trained: bool) -> Any:
    """Load the causal language model of a Hugging Face folder, without dropout; under ZeRO 3 divided among the ranks.

    ``trained``: false for a frozen model, which is whole on every rank. Raises ``PipelineError`` for a folder without
    config, weights or tokenizer, and for weights that do not match its config exactly.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    check_folder(policy)
    logging.disable_progress_bar()  # the terminal shows one line per iteration
    if (policy / "model.safetensors.index.json").is_file():
        weight_files(policy)
    dtype, attending = update.dtype, attention.implementation(update, _config(policy))
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # check_loaded gives one line for what transformers shows as a table of every weight
    try:
        if trained and update.zero_stage == 3:
            model = load_partitioned(policy, dtype, attending, distributed.config(update))
        else:
            model, report = AutoModelForCausalLM.from_pretrained(
                policy,
                dtype=getattr(torch, dtype),
                attn_implementation=attending,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            check_loaded(model, report, where=str(policy))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:_TOLD]
        raise PipelineError(
            f"not a causal language model that transformers opens: {reason}", where=str(policy)
        ) from None
    finally:
        logging.set_verbosity(verbosity)
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


def _config(policy: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(policy, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"config.json cannot be read: {' '.join(str(error).split())[:_TOLD]}", where=str(policy)
        ) from None


def check_folder(policy: Path) -> None:
    """Raise ``PipelineError`` for the first of config.json, safetensors and tokenizer that a policy folder lacks."""
    if not policy.is_dir():
        raise PipelineError("no such policy folder", where=str(policy), fix="run `dvc repro`, which makes it")
    if not (policy / "config.json").is_file():
        raise PipelineError("config.json is missing", where=str(policy), fix="give a Hugging Face model folder")
    if not any(policy.glob("*.safetensors")):
        raise PipelineError("the weights (*.safetensors) are missing", where=str(policy))
    if not any((policy / name).is_file() for name in TOKENIZERS):
        raise PipelineError(
            "the tokenizer is missing", where=str(policy), fix="copy tokenizer.json and tokenizer_config.json into it"
        )
    check_policy(policy)
