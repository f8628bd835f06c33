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
BASE = "base"  # of the frozen weights under adapters, which the policy's merged ones do not tell


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
    """Write a folder that transformers opens, whole; returns the sha256 of its weights.

    ``entries`` are the model's tensors, ``copied`` the parent's tokenizer files by name; ``parent`` says which
    policy it came from. All ranks call it; the one that ``writes`` has the files and the sha256, others "".
    """
    metadata = {"format": "pt"}  # transformers reads no file without it
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
    """What ``save_pretrained`` writes beside the weights."""
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
    """Write the optimiser's moments, the trainer's counters and, under adapters, the base, whole. All ranks call it."""
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
    """Weights, moments and counters of a policy folder and the trainer state that belongs to it; tensors are
    read when they are asked for. ``checks``: hold the state's files against their sums; one rank does.

    Raises ``PipelineError`` where one is missing or not what was written, or the state belongs to other weights.
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
    """The frozen weights of a trainer state with adapters."""
    return Tensors(folder, BASE)
