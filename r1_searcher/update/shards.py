"""Write and read folders of tensors as safetensors, one shard at a time: never a second whole model in memory.

``safetensors.torch.save`` makes a shard's bytes and Python writes them: the library's ``save_file`` hides the cause of
a full disk, and makes files readable by their owner only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from r1_searcher.files.artefacts import write_json
from r1_searcher.files.weights import STEM, weight_files

SHARD_BYTES = 10**9  # a larger folder is split into several files


@dataclass(frozen=True)
class TensorEntry:
    """A tensor to write: its name, its size in bytes, and how to read it."""

    name: str
    size: int
    read: Callable[[], Tensor]  # returns the whole tensor, on any device; if ranks hold parts, all of them must call it


def write(
    folder: Path | None, stem: str, entries: Sequence[TensorEntry], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``stem.safetensors``, or shards of at most ``SHARD_BYTES`` (a larger tensor alone) with their index.

    All ranks call it with equal entries, because ``read`` may gather; only rank 0 gives a folder, and holds a shard
    twice while writing.
    """
    from safetensors.torch import save

    shards = _split(entries)
    names = [f"{stem}.safetensors"]
    if len(shards) > 1:
        names = [f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        if folder is not None:
            tensors = {entry.name: entry.read().detach().cpu().contiguous() for entry in shard}
            (folder / name).write_bytes(save(tensors, dict(metadata) if metadata else None))
            del tensors  # before the next shard is read
        else:
            for entry in shard:
                entry.read()
    if folder is not None and len(shards) > 1:
        where = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
        total = {"total_size": sum(entry.size for entry in entries)}
        write_json(folder / f"{stem}.safetensors.index.json", {"metadata": total, "weight_map": where})


def _split(entries: Sequence[TensorEntry]) -> list[list[TensorEntry]]:
    """Group entries into shards."""
    shards: list[list[TensorEntry]] = [[]]
    room = SHARD_BYTES
    for entry in entries:
        if shards[-1] and entry.size > room:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(entry)
        room -= entry.size
    return shards


class Tensors(Mapping[str, Tensor]):
    """Return the tensors under ``stem`` in a folder, each read on access. Raises ``PipelineError`` as
    ``weight_files``."""

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
        """Return one tensor's size from its file's header."""
        return tuple(self._files[name].get_slice(name).get_shape())
