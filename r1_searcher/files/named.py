"""The files that a parameter names: a path, a folder, a pattern, with ``~`` for the user's home."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from r1_searcher.errors import PipelineError


def files_of(names: Iterable[str], *, where: str) -> list[Path]:
    """The files in their order: those of a folder (and its folders) and of a pattern by name, hidden ones left out.

    A path that does not exist stays in the list: whoever reads it says so. ``PipelineError`` for a folder and a pattern
    without a file. ``where``: the parameter.
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
    """A file that is meant: no hidden one, and no sums that stand beside files."""
    parts = file.relative_to(folder).parts
    return file.is_file() and not any(part.startswith(".") for part in parts) and file.suffix != ".sha256"
