"""The engine on transformers: one batch, in the caller's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1_searcher.extend import engine
from r1_searcher.types.protocols import Engine, EngineKind


@engine("transformers")
class TransformersKind(EngineKind):
    """Can take weights from a trainer's memory; its cache grows with its batch."""

    in_memory = True

    def load(self, policy: Path | str, tokenizer: Any, rollout: Any, *, tensor_parallel: int) -> Engine:
        """Raises ``PipelineError`` if the model's logits are not its output head applied to the last hidden state."""
        import torch

        from r1_searcher.model_folders import load_model
        from r1_searcher.rollout.engine import TransformersEngine

        device = "cuda" if torch.cuda.is_available() else "cpu"
        made = TransformersEngine(load_model(policy, dtype=rollout.dtype).to(device), tokenizer)
        made.check_head(str(policy))
        return made
