"""Expand a parameter's files: a path, a folder or a pattern, with ``~`` for the home folder."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from r1_searcher.errors import PipelineError

_ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")  # of Hugging Face datasets


def files_of(names: Iterable[str], *, where: str) -> list[Path]:
    """Return the files in order; those of a folder (recursively) or a pattern by name, without hidden ones and
    without a data set's card and licence.

    A missing path stays in the list, for the reader to report. Raises ``PipelineError`` for a folder or pattern without
    files. ``where``: the parameter.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if _plain(file, path))
        elif not path.exists() and glob.has_magic(name):
            inside = [Path(file) for file in sorted(glob.glob(str(path), recursive=True)) if Path(file).is_file()]
        else:
            found.append(path)
            continue
        if not inside:
            raise PipelineError(f"{name!r} has no file", where=where)
        found += inside
    return found


def _plain(file: Path, folder: Path) -> bool:
    """Return whether a file counts: not hidden, and neither a checksum file nor about the others."""
    parts = file.relative_to(folder).parts
    about = file.suffix == ".sha256" or file.name in _ABOUT or file.stem.upper() in ("README", "LICENSE")
    return file.is_file() and not about and not any(part.startswith(".") for part in parts)
