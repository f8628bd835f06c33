"""Policy folders and trainer state on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.files.weights import STEM, weights_sha256
from r1_searcher.update import shards
from r1_searcher.update.shards import TensorEntry, Tensors

STATE_FOLDER = "trainer_state"  # beside the policy folder
_MANIFEST, NUMBERS = "manifest.json", "trainer.json"
_MOMENTS = "optimizer"  # stem of the optimiser's files
BASE = "base"  # stem of the frozen weights under adapters, which cannot be recovered from the merged ones


def write_policy(
    policy: Path,
    model: Any,
    entries: Sequence[TensorEntry],
    copied: Mapping[str, bytes],
    *,
    step: int,
    parent: str,
    writes: bool,
) -> str:
    """Write a folder that transformers opens, whole; return the sha256 of its weights.

    ``entries`` are the model's tensors, ``copied`` the parent's tokenizer files by name; ``parent`` names the policy
    that it came from. All ranks must call; only the one that ``writes`` writes files and returns the sha256, the others
    return "".
    """
    metadata = {"format": "pt"}  # transformers refuses files without it
    if not writes:
        shards.write(None, STEM, entries, metadata=metadata)
        return ""
    with artefacts.atomic(policy, folder=True) as draft:
        _write_config(draft, model)
        shards.write(draft, STEM, entries, metadata=metadata)
        for name, content in copied.items():
            (draft / name).write_bytes(content)
        sha256 = weights_sha256(draft)
        artefacts.write_json(draft / _MANIFEST, {"sha256": sha256, "parent": parent, "step": step})
    return sha256


def _write_config(folder: Path, model: Any) -> None:
    """Write the files that ``save_pretrained`` writes beside the weights."""
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def write_state(
    folder: Path,
    entries: Sequence[TensorEntry],
    numbers: Mapping[str, object],
    *,
    base: Sequence[TensorEntry] = (),
    writes: bool,
) -> None:
    """Write the optimiser's moments, the trainer's counters and, with adapters, the base, whole. All ranks must
    call."""
    if not writes:
        shards.write(None, _MOMENTS, entries)
        shards.write(None, BASE, base)
        return
    with artefacts.atomic(folder, folder=True) as draft:
        shards.write(draft, _MOMENTS, entries)
        if base:
            shards.write(draft, BASE, base)
        artefacts.write_json(draft / NUMBERS, dict(numbers))


def read(policy: Path, folder: Path, *, checks: bool = True) -> tuple[Tensors, Tensors, dict[str, Any]]:
    """Return weights, moments and counters of a policy folder and its trainer state; tensors are read on access.

    ``checks``: compare the state's files with their checksums; one rank does. Raises ``PipelineError`` if a file is
    missing or damaged, or the state belongs to other weights.
    """
    if checks:
        sums.check(folder)
    numbers = artefacts.read_json(folder / NUMBERS)
    if numbers["policy_sha256"] != weights_sha256(policy):
        raise PipelineError(
            f"this trainer state belongs to another policy than {policy}",
            where=str(folder),
            fix="give the two folders that one save wrote",
        )
    return Tensors(policy), Tensors(folder, _MOMENTS), numbers


def read_base(folder: Path) -> Tensors:
    """Return the frozen weights of a trainer state with adapters."""
    return Tensors(folder, BASE)
