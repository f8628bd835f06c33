"""Safetensors files written one shard at a time: the library's bytes, and an index that transformers reads."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint, sha256_file
from r1_searcher.files.weights import weight_files, weights_sha256
from r1_searcher.update import shards

TENSORS = {
    "b.x": torch.arange(15.0).reshape(3, 5),
    "a": torch.arange(7).bfloat16(),
    "é": torch.tensor(2.5),
    "n": torch.arange(3),
    "empty": torch.zeros(0, 4),
}


def entries(tensors: dict[str, torch.Tensor] = TENSORS) -> list[shards.TensorEntry]:
    return [
        shards.TensorEntry(name, value.nbytes, lambda value=value: value)  # type: ignore[misc]
        for name, value in tensors.items()
    ]


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
@pytest.mark.parametrize("tensors", [TENSORS, {}], ids=["some", "none"])
def test_bytes_are_the_library_s(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None
) -> None:
    save_file(tensors, tmp_path / "reference.safetensors", metadata=metadata)
    shards.write(tmp_path, "model", entries(tensors), metadata=metadata)
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "reference.safetensors").read_bytes()
    assert weights_sha256(tmp_path) == sha256_file(tmp_path / "reference.safetensors")
    (tmp_path / "usual").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_does_not_fit_into_one_file_becomes_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 64)
    tensors = {f"t{number}": torch.full((4,), float(number)) for number in range(9)} | {"big": torch.zeros(100)}
    shards.write(tmp_path, "model", entries(tensors))
    files = weight_files(tmp_path)
    assert [path.name for path in files] == [f"model-0000{number}-of-00004.safetensors" for number in range(1, 5)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 9 * 16 + 400
    for path in files:
        assert set(load_file(path)) == {name for name, where in index["weight_map"].items() if where == path.name}
    found = shards.Tensors(tmp_path)
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert weights_sha256(tmp_path) == fingerprint([[path.name, sha256_file(path)] for path in files])


def test_a_shard_is_read_when_its_turn_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never two at a time; and every rank reads each tensor equally often, even if it writes nothing."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 12)
    alive = most = 0

    def count(change: int) -> None:
        nonlocal alive, most
        alive += change
        most = max(most, alive)

    def read() -> torch.Tensor:
        array = np.ones(3, dtype=np.float32)  # lives as long as any tensor that shares its memory
        count(1)
        weakref.finalize(array, count, -1)
        return torch.from_numpy(array)

    some = [shards.TensorEntry(f"t{number}", 12, read) for number in range(7)]
    shards.write(tmp_path, "model", some)
    shards.write(None, "model", some)
    assert alive == 0
    assert most == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "model.safetensors is missing, and so is model.safetensors.index.json"),
        ({"model.safetensors.index.json": "{}"}, "names no shard"),
        (
            {"model.safetensors.index.json": '{"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}'},
            r"x.safetensors is missing \(2 of 2 shards\)",
        ),
    ],
)
def test_broken_folders_are_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(PipelineError, match=message):
        weight_files(tmp_path)
