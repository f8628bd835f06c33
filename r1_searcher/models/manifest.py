"""What a base policy's folder says of itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from r1_searcher.files.artefacts import write_json
from r1_searcher.files.weights import weights_sha256


def write_manifest(folder: Path, *, parent: str | None, source: str, **more: object) -> None:
    """Write ``manifest.json`` for a folder that transformers just saved.

    The weights get the permissions of the other files: safetensors writes them for their owner alone.
    """
    for file in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", file)
    told = {"sha256": weights_sha256(folder), "parent": parent, "step": 0, "source": source}
    write_json(folder / "manifest.json", told | more)
