"""Opening a policy folder (or a hub name) with one clear line for each thing that can be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.contract import params
from stages.contract.errors import PipelineError
from stages.rollout.engine import TransformersEngine


def load_tokenizer(policy: Path | str) -> Any:
    """The policy's own tokenizer."""
    from transformers import AutoTokenizer

    place = Path(policy)
    if place.is_dir() and not any(
        (place / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise PipelineError("the model folder has no tokenizer", where=str(policy), fix="save the tokenizer beside it")
    try:
        return AutoTokenizer.from_pretrained(policy)
    except (OSError, ValueError) as error:
        raise PipelineError(f"no tokenizer could be opened: {_first_line(error)}", where=str(policy)) from None


def load_model(policy: Path | str, *, dtype: str) -> Any:
    """A causal language model in evaluation mode. Only safetensors are read: nothing is unpickled."""
    import torch
    from transformers import AutoModelForCausalLM

    if Path(policy).is_dir() and not (Path(policy) / "config.json").exists():
        raise PipelineError("not a Hugging Face model folder: no config.json", where=str(policy))
    try:
        model = AutoModelForCausalLM.from_pretrained(policy, dtype=getattr(torch, dtype), use_safetensors=True)
    except (OSError, ValueError) as error:
        raise PipelineError(f"no model could be opened: {_first_line(error)}", where=str(policy)) from None
    return model.eval()


def load_engine(policy: Path | str, rollout: params.Rollout) -> TransformersEngine:
    """The engine that ``rollout.engine`` names, with the policy's weights."""
    return TransformersEngine(load_model(policy, dtype=rollout.dtype), load_tokenizer(policy))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
