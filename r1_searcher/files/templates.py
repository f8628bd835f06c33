"""Prompt files: built-in ones by name, the user's by path."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.errors import PipelineError


def read_template(name_or_path: str, shipped_in: Path, *, where: str) -> tuple[str, str]:
    """Return path and text of a prompt: ``shipped_in``/NAME.txt, or a user's file.

    Raises ``PipelineError`` for a missing file (with the parameter ``where``), and for one that is not UTF-8 (with its
    path).
    """
    shipped = {path.stem: path for path in sorted(shipped_in.glob("*.txt"))}
    path = shipped.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise PipelineError(
            f"no prompt {name_or_path!r}",
            where=where,
            fix=f"built-in ones are {', '.join(shipped)}; or give the path of a text file",
        )
    return str(path), text_of(path)


def text_of(path: Path) -> str:
    """Return the text of a file. Raises ``PipelineError`` with its path if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PipelineError(f"not UTF-8 at byte {error.start + 1}", where=str(path)) from None
