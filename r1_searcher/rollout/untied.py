"""Make a policy folder that vLLM can reload: with an output head of its own.

If a model's head is tied to its embedding, the folder has no head, and vLLM's reload silently keeps the old one. So the
engine only sees a view: links to the same files, a config that says that nothing is tied, and the head as a file beside
them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.sums import SUMS_FILE as SUMS
from r1_searcher.texts import parse_json

HEAD = "lm_head.weight"
HEAD_FILE = "untied-lm_head.safetensors"  # sorts after the other files, so that it is read last
_EMBEDDING = "embed_tokens.weight"
_INDEX = "model.safetensors.index.json"

Shapes = Mapping[str, tuple[int, ...]]


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a folder's weights, from the headers of its safetensors files."""
    return {name: shape for file in _files(folder) for name, shape in _read(file).items()}


def check_same(new: Shapes, old: Shapes, *, where: str) -> None:
    """Raise ``PipelineError`` if the weights differ from the engine's in name or shape."""
    wrong = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    if wrong:
        raise PipelineError(
            f"of another architecture: {len(wrong)} weights have no counterpart of their shape, such as {wrong[0]}",
            where=where,
            fix="start a new engine for another model",
        )


def make_untied_view(policy: Path, view: Path) -> Path:
    """Make ``view``, a folder of links to the policy's files with its own head; return it.

    Takes the head's size on disk if the policy is tied, else nothing. The view must not outlive the policy.
    """
    policy = policy.resolve()
    try:
        config: dict[str, Any] = parse_json((policy / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(f"no model could be opened: {error}", where=str(policy)) from error
    shutil.rmtree(view, ignore_errors=True)
    view.mkdir(parents=True)
    tied = bool(config.get("tie_word_embeddings", False))
    for file in policy.iterdir():
        if file.is_file() and file.name != SUMS and not (tied and file.name in ("config.json", _INDEX)):
            os.symlink(file, view / file.name)
    if tied:
        config["tie_word_embeddings"] = False
        (view / "config.json").write_text(json.dumps(config), encoding="utf-8")
        places = {name: file for file in _files(policy) for name in _read(file)}
        _write_head(places, view / HEAD_FILE, where=str(policy))
        weight_map = {name: file.name for name, file in places.items()} | {HEAD: HEAD_FILE}
        (view / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return view


def _write_head(places: Mapping[str, Path], target: Path, *, where: str) -> None:
    """Write the embedding a second time, as the head."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    names = [name for name in places if name.endswith(_EMBEDDING)]
    if len(names) != 1:
        raise PipelineError(
            f"its head is tied to an embedding that is not known: {len(names)} weights are named *{_EMBEDDING}",
            where=where,
            fix="rollout.engine: transformers, or a policy saved with tie_word_embeddings false",
        )
    with safe_open(places[names[0]], framework="pt") as weights:
        save_file({HEAD: weights.get_tensor(names[0])}, target, metadata={"format": "pt"})


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise PipelineError("the folder has no safetensors", where=str(folder))
    return found


def _read(file: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as weights:
            names: list[str] = list(weights.keys())
            return {name: tuple(weights.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise PipelineError(f"no weights could be read: {error}", where=str(file)) from error
