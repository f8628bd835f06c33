"""The weight files of a model folder (one ``model.safetensors``, or the shards in its index), and whether they fit a
model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files import sums
from r1_searcher.files.artefacts import fingerprint, read_json, sha256_file

_SHARD = re.compile(r"[^/\\\x00-\x1f]+\.safetensors")  # no path, and nothing that would be unpickled
STEM = "model"  # stem of the weights' files; other tensors in folders have stems of their own


def weight_files(folder: Path, stem: str = STEM) -> list[Path]:
    """Return the safetensors files under ``stem``, in the order of their names.

    Raises ``PipelineError`` if there are none, or the index names a shard that is missing or not a plain name of a
    safetensors file.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise PipelineError(f"{single.name} is missing, and so is {index.name}", where=str(folder))
    found = read_json(index)
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not names:
        raise PipelineError("names no shard", where=str(index), fix="copy the complete model folder again")
    for name in names.values():
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise PipelineError(
                f"names {name!r}, which is not a safetensors file in this folder",
                where=str(index),
                fix="each shard must be a plain name that ends in .safetensors",
            )
    files = [folder / name for name in sorted(set(names.values()))]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise PipelineError(
            f"{missing[0]} is missing ({len(missing)} of {len(files)} shards)",
            where=str(folder),
            fix="copy the complete model folder again",
        )
    return files


def weights_sha256(folder: Path, stem: str = STEM) -> str:
    """Return the identity of the weights: the file's sha256, or one over the shards' names and contents."""
    files = weight_files(folder, stem)
    return sha256_file(files[0]) if len(files) == 1 else fingerprint([[path.name, sha256_file(path)] for path in files])


def check_policy(folder: Path | str, *, weights: bool = True) -> None:
    """Verify a policy folder against its checksums, or else against the sha256 in its manifest.

    ``weights``: also the weights, which are large. Hub names, and folders that were not made here, pass. Raises
    ``PipelineError`` for a truncated manifest, and for a file that differs from what was written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if sums.read(folder) is not None:
        if weights:
            sums.check(folder)
        else:
            sums.check_files(path for path in files if path.suffix != ".safetensors" and path.name != sums.SUMS_FILE)
        return
    manifest = folder / "manifest.json"
    found = read_json(manifest) if manifest.is_file() else None
    recorded = found.get("sha256") if isinstance(found, dict) and "parent" in found else None
    if weights and recorded is not None and (there := weights_sha256(folder)) != recorded:
        raise PipelineError(
            f"the weights' sha256 is {there[:12]}, not {recorded[:12]} as {manifest.name} says",
            where=str(folder),
            fix="copy the complete policy folder again",
        )


def check_fit(
    missing: Iterable[str],
    misshapen: Iterable[tuple[str, Iterable[int], Iterable[int]]],
    unexpected: Iterable[str],
    *,
    where: str,
    fix: str = "do config.json and the weights belong together?",
) -> None:
    """Raise a one-line ``PipelineError`` if a folder's tensors are not those of the model that opens them.

    ``missing``: names that only the model has (transformers would draw them at random). ``misshapen``: name, shape in
    the files, shape in the model. ``unexpected``: names that the model does not use (transformers would ignore them,
    even a whole layer). The first is named, the others are counted.
    """
    wrong = [f"{name} is missing" for name in sorted(missing)]
    wrong += [f"{name} is {tuple(found)}, not {tuple(wanted)}" for name, found, wanted in sorted(misshapen)]
    wrong += [f"{name} has no place in the model" for name in sorted(unexpected)]
    if wrong:
        more = f", and {len(wrong) - 1} more do not fit" if len(wrong) > 1 else ""
        raise PipelineError(wrong[0] + more, where=where, fix=fix)


def check_loaded(model: Any, report: Mapping[str, Any], *, where: str) -> None:
    """Apply ``check_fit`` and ``check_tied`` to a model that transformers opened with ``ignore_mismatched_sizes``;
    ``report`` is its ``output_loading_info``, without names that it ignores on purpose."""
    check_fit(report["missing_keys"], report["mismatched_keys"], report["unexpected_keys"], where=where)
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    check_tied([(head, first) for head, first in tied.items() if head not in model.all_tied_weights_keys], where=where)


def check_tied(differ: Iterable[tuple[str, str]], *, where: str) -> None:
    """Raise ``PipelineError`` for a head and embedding, by name, that config.json ties but that differ in the files.

    Loaders take one or the other: transformers the head, ZeRO 3 and vLLM the embedding.
    """
    for head, embedding in differ:
        raise PipelineError(
            f"{head} is not {embedding}, to which config.json ties it",
            where=where,
            fix="set tie_word_embeddings to false in config.json, or save the model again",
        )
