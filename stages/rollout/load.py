"""Opening a policy folder (or a hub name) with one clear line for each thing that can be wrong with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.contract import params
from stages.contract.errors import PipelineError
from stages.contract.protocols import Engine
from stages.contract.weights import check_loaded, check_policy
from stages.rollout import token_attention
from stages.rollout.engine import TransformersEngine


def load_tokenizer(policy: Path | str) -> Any:
    """The policy's own tokenizer."""
    from transformers import AutoTokenizer

    place = Path(policy)
    if place.is_dir() and not any(
        (place / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise PipelineError("the model folder has no tokenizer", where=str(policy), fix="save the tokenizer beside it")
    check_policy(policy, weights=False)
    with reading("tokenizer", policy):
        return AutoTokenizer.from_pretrained(policy)


def load_model(policy: Path | str, *, dtype: str) -> Any:
    """A causal language model in evaluation mode. Only safetensors are read: nothing is unpickled.

    A weight that the files lack, hold in another shape, or have beyond the model's is an error: transformers would draw
    it at random, or leave it out.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if Path(policy).is_dir() and not (Path(policy) / "config.json").exists():
        raise PipelineError("not a Hugging Face model folder: no config.json", where=str(policy))
    check_policy(policy)
    with reading("model", policy):
        model, report = AutoModelForCausalLM.from_pretrained(
            policy,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    check_loaded(model, report, where=str(policy))
    return model.eval()


def load_engine(policy: Path | str, rollout: params.Rollout, *, tensor_parallel: int = 1) -> Engine:
    """The engine that ``rollout.engine`` names, with the policy's weights, on ``tensor_parallel`` GPUs (vLLM)."""
    import torch

    if rollout.engine == "vllm":
        from stages.rollout.vllm_engine import VllmEngine

        check_policy(policy)
        tokenizer = load_tokenizer(policy)
        return VllmEngine(_folder(policy), tokenizer, rollout, tensor_parallel=tensor_parallel)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(policy, dtype=rollout.dtype).to(device)
    token_attention.use(model)
    return TransformersEngine(model, load_tokenizer(policy))


def _folder(policy: Path | str) -> Path:
    """The folder of a policy: itself, or where the hub's client keeps it."""
    if Path(policy).is_dir():
        return Path(policy)
    from huggingface_hub import snapshot_download

    with reading("model", policy):
        return Path(snapshot_download(str(policy), allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))


@contextlib.contextmanager
def reading(what: str, policy: Path | str) -> Iterator[None]:
    """Make whatever is wrong with files from outside one line, and keep transformers from printing pages about it."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # a broken file may raise anything: KeyError, TypeError, SafetensorError, ...
        first_line = next(iter(str(error).strip().splitlines()), "")
        reason = f"{type(error).__name__}: {first_line}"
        raise PipelineError(f"no {what} could be opened: {reason}", where=str(policy)) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
