"""Policy folders and trainer state on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.contract import artefacts
from stages.contract.errors import PipelineError

STATE_FOLDER = "trainer_state"  # beside the policy folder
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
MOMENTS, NUMBERS = "optimizer.safetensors", "trainer.json"
ONE_FILE = "1000GB"  # a shard's size: the manifest's sha256 is of one file


def write_policy(
    policy: Path,
    model: Any,
    tensors: Mapping[str, Tensor],
    copied: Mapping[str, bytes],
    *,
    step: int,
    parent: str,
) -> str:
    """Write a folder that transformers opens, whole; returns the sha256 of its weights.

    ``copied`` are the parent's tokenizer files by name; ``parent`` says which policy it came from.
    """
    with artefacts.atomic(policy, folder=True) as draft:
        model.save_pretrained(draft, state_dict=dict(tensors), max_shard_size=ONE_FILE)
        for name, content in copied.items():
            (draft / name).write_bytes(content)
        sha256 = artefacts.sha256_file(draft / WEIGHTS)
        artefacts.write_json(draft / MANIFEST, {"sha256": sha256, "parent": parent, "step": step})
    return sha256


def write_state(folder: Path, moments: Mapping[str, Tensor], numbers: Mapping[str, object]) -> None:
    """Write the optimiser's moments and the trainer's counters, whole."""
    from safetensors.torch import save_file

    with artefacts.atomic(folder, folder=True) as draft:
        save_file(dict(moments), draft / MOMENTS)
        artefacts.write_json(draft / NUMBERS, dict(numbers))


def read(policy: Path, folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights, moments and counters of a policy folder and the trainer state that belongs to it.

    Raises ``PipelineError`` where one is missing, or the state belongs to other weights.
    """
    from safetensors.torch import load_file

    if not (policy / WEIGHTS).is_file():
        raise PipelineError(f"{WEIGHTS} is missing", where=str(policy), fix="give a policy folder that an update wrote")
    numbers = artefacts.read_json(folder / NUMBERS)
    if numbers["policy_sha256"] != artefacts.sha256_file(policy / WEIGHTS):
        raise PipelineError(
            f"this trainer state belongs to another policy than {policy}",
            where=str(folder),
            fix="give the two folders that one save wrote",
        )
    return load_file(policy / WEIGHTS), load_file(folder / MOMENTS), numbers
