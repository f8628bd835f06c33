"""The weight files of a model folder: one ``model.safetensors``, or the shards that its index names."""

from __future__ import annotations

from pathlib import Path

from stages.contract.artefacts import fingerprint, read_json, sha256_file
from stages.contract.errors import PipelineError

STEM = "model"  # of the weights; other tensors lie in folders under stems of their own


def weight_files(folder: Path, stem: str = STEM) -> list[Path]:
    """The safetensors files under ``stem``, in the order of their names.

    Raises ``PipelineError`` where there are none, or a shard that the index names is missing.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise PipelineError(f"{single.name} is missing, and so is {index.name}", where=str(folder))
    found = read_json(index)
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not names:
        raise PipelineError("names no shard", where=str(index), fix="copy the model's folder anew, whole")
    files = [folder / name for name in sorted(set(names.values()))]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise PipelineError(
            f"{missing[0]} is missing ({len(missing)} of {len(files)} shards)",
            where=str(folder),
            fix="copy the model's folder anew, whole",
        )
    return files


def weights_sha256(folder: Path, stem: str = STEM) -> str:
    """Identity of the weights: the file's sha256, or one over the shards' names and contents."""
    files = weight_files(folder, stem)
    return sha256_file(files[0]) if len(files) == 1 else fingerprint([[path.name, sha256_file(path)] for path in files])
