"""Safetensors files written a tensor at a time and read likewise: never a second whole model in memory.

``safetensors.torch.save_file`` wants all tensors at once. The format is a header, which names and shapes
suffice for, and then the tensors' bytes; so each can be gathered from the ranks, written and forgotten.
The files are byte for byte those of the library (a test holds them to it).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r1_searcher.files.artefacts import write_json
from r1_searcher.files.weights import STEM, weight_files

SHARD_BYTES = 5 * 10**9  # a larger folder of tensors is written as several files
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Entry:
    """A tensor to be written: what the header says of it, and how it is had."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]  # the whole tensor, on any device; where ranks hold parts, all of them must call

    @property
    def size(self) -> int:
        """Bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write(
    folder: Path | None, stem: str, entries: Sequence[Entry], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``stem.safetensors``, or shards of at most ``SHARD_BYTES`` (a larger tensor alone) with their index.

    All ranks call it with equal entries, because ``read`` may gather; only rank 0 gives a folder.
    """
    shards = _split(entries, SHARD_BYTES)
    names = [f"{stem}.safetensors"]
    if len(shards) > 1:
        names = [f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        if folder is not None:
            _write_file(folder / name, shard, metadata)
        else:
            for entry in shard:
                entry.read()
    if folder is not None and len(shards) > 1:
        where = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
        total = {"total_size": sum(entry.size for entry in entries)}
        write_json(folder / f"{stem}.safetensors.index.json", {"metadata": total, "weight_map": where})


def _split(entries: Sequence[Entry], shard_bytes: int) -> list[list[Entry]]:
    """Runs of entries that fit into a shard, each in the order of the library: wide types first, then by name."""
    shards: list[list[Entry]] = [[]]
    room = shard_bytes
    for entry in entries:
        if shards[-1] and entry.size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(entry)
        room -= entry.size
    return [sorted(shard, key=lambda entry: (-entry.dtype.itemsize, entry.name)) for shard in shards]


def _write_file(path: Path, entries: Sequence[Entry], metadata: Mapping[str, str] | None) -> None:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for entry in entries:
        start, end = end, end + entry.size
        header[entry.name] = {"dtype": _NAMES[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for entry in entries:
            tensor = entry.read().detach()
            if tuple(tensor.shape) != entry.shape or tensor.dtype != entry.dtype:
                raise ValueError(f"{entry.name}: {tensor.dtype} {tuple(tensor.shape)}, not {entry.dtype} {entry.shape}")
            file.write(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


class Tensors(Mapping[str, Tensor]):
    """The tensors under ``stem`` in a folder, each read when it is asked for. ``PipelineError`` as ``weight_files``."""

    def __init__(self, folder: Path, stem: str = STEM) -> None:
        from safetensors import safe_open

        files = [safe_open(path, framework="pt") for path in weight_files(folder, stem)]
        self._files = {name: file for file in files for name in file.keys()}  # noqa: SIM118  (no mapping)

    def __getitem__(self, name: str) -> Tensor:
        found: Tensor = self._files[name].get_tensor(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, from its file's header."""
        return tuple(self._files[name].get_slice(name).get_shape())
