"""The code that a chosen name uses: the file that registers it, and the modules that this file imports."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from r1_searcher.extensions import Point, shipped
from r1_searcher.files.artefacts import fingerprint
from r1_searcher.files.sums import sha256_file

_ROOT = Path(__file__).resolve().parent.parent


def chosen_code(files: Iterable[Path], *, room: str) -> str:
    """Return the sha256 over the chosen ``files`` and the modules of ``room`` (``"rewards"``) that they import,
    transitively.

    For a user's file only the content counts, not its path. Unchosen files do not count.
    """
    chosen = [path.resolve() for path in files]
    used = sorted({*chosen, *(other for path in chosen for other in _imported(path, room))})
    return fingerprint(sorted([_name(path), sha256_file(path)] for path in used))


def named_files(*points: Point) -> set[Path]:
    """Return the built-in files that register names to choose from: a room's code is hashed without them."""
    return {path for point in points for path in point.files().values()}


def _name(path: Path) -> str:
    return path.relative_to(_ROOT).as_posix() if shipped(path) else ""


def _imported(path: Path, room: str) -> set[Path]:
    seen: set[Path] = set()
    todo = {path}
    while todo:
        one = todo.pop()
        seen.add(one)
        todo |= {place for name in _names(one.read_bytes()) for place in _modules(name, room)} - seen
    return seen


def _modules(name: str, room: str) -> Iterator[Path]:
    """Yield the files behind ``r1_searcher.rewards.case``; nothing if the name is of another room."""
    parts = name.split(".")
    if parts[:2] != [_ROOT.name, room]:
        return
    for length in range(2, len(parts) + 1):
        place = _ROOT.joinpath(*parts[1:length])
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


@functools.lru_cache(maxsize=256)
def _names(content: bytes) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return frozenset(found)
