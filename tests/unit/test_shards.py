"""Safetensors files written a tensor at a time: the library's bytes, shards that transformers' index names."""

from __future__ import annotations

import json
from pathlib import Path

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


def entries(tensors: dict[str, torch.Tensor] = TENSORS) -> list[shards.Entry]:
    return [
        shards.Entry(name, tuple(value.shape), value.dtype, lambda value=value: value)  # type: ignore[misc]
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


def test_a_tensor_is_read_when_its_turn_comes(tmp_path: Path) -> None:
    """Never two at a time; and on a rank that writes nothing as often as on the one that writes."""
    alive, most = 0, 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def read() -> torch.Tensor:
        tensor = torch.ones(3)
        tensor.keeper = Counted()  # type: ignore[attr-defined]
        return tensor

    some = [shards.Entry(f"t{number}", (3,), torch.float32, read) for number in range(5)]
    shards.write(tmp_path, "model", some)
    shards.write(None, "model", some)
    assert alive == 0
    assert most <= 2  # the last one is let go when the next is there


def test_a_tensor_that_is_not_what_the_header_said_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t: torch.float32 \(2,\), not torch.float32 \(3,\)"):
        shards.write(tmp_path, "model", [shards.Entry("t", (3,), torch.float32, lambda: torch.zeros(2))])


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
