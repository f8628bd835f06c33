"""The engine that the parameters name, with a policy's weights."""

from __future__ import annotations

from pathlib import Path

from r1_searcher import params
from r1_searcher.files.weights import check_policy
from r1_searcher.rollout.chat_template import try_template
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.rollout.load import load_config, load_model, load_tokenizer, reading
from r1_searcher.rollout.prompt import load_prompt
from r1_searcher.types.model_config import check_lengths
from r1_searcher.types.protocols import Engine


def load_engine(policy: Path | str, rollout: params.Rollout, *, tensor_parallel: int = 1) -> Engine:
    """The engine that ``rollout.engine`` names, with the policy's weights, on ``tensor_parallel`` GPUs (vLLM).

    Raises ``PipelineError`` for a policy that the engine would sample from wrongly: logits that are more than its head
    says, positions that depend on a sequence's length, a chat template that does not take our prompt.
    """
    import torch

    tokenizer = load_tokenizer(policy)
    try_template(load_prompt(rollout.prompt), tokenizer)
    check_lengths(load_config(policy), rollout.max_total_tokens)
    if rollout.engine == "vllm":
        from r1_searcher.rollout.vllm_engine import VllmEngine

        check_policy(policy)
        return VllmEngine(_folder(policy), tokenizer, rollout, tensor_parallel=tensor_parallel)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    engine = TransformersEngine(load_model(policy, dtype=rollout.dtype).to(device), tokenizer)
    engine.check_head(str(policy))
    return engine


def _folder(policy: Path | str) -> Path:
    """The folder of a policy: itself, or where the hub's client keeps it."""
    if Path(policy).is_dir():
        return Path(policy)
    from huggingface_hub import snapshot_download

    with reading("model", policy):
        return Path(snapshot_download(str(policy), allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
