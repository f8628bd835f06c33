"""Bring a checkout's uncommitted changes and the user's inputs into a workspace.

New files in ``inputs/`` become symbolic links, everything else copies. Inputs may be as large as Wikipedia, and a link
costs neither time nor disk. DVC follows it: it hashes the target, and recognises it by size and time, as an interrupted
corpus does (``r1_searcher.corpus.resume``). Not hard links: saving by replacing the file would leave the workspace with
the old one; a mode set on one name (DVC protects what it links) applies to both; and an ``inputs/`` mounted into a
container is another file system. Not reflinks: only some file systems have them, and another inode is hashed again. The
drawback: an input edited while a stage reads it is read as edited, as in the checkout itself. Code and settings are
small and are copied, so that they do not change during a run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import atomic, remove_orphans
from r1_searcher.files.git import listed

INPUTS = "inputs"


def copy_changes(root: Path, folder: Path, *, but: Collection[str] = ()) -> None:
    """Copy what is changed or new in ``root`` since its commit into ``folder``, and remove what is removed.

    ``but``: top-level names to skip. Unchanged files are left alone.
    """
    changed = listed(root, "diff", "--name-only", "-z", "HEAD", "--no-renames")
    new = listed(root, "ls-files", "--others", "--exclude-standard", "-z")
    inputs = {file for name in new if _top(name) == INPUTS for file in _files(root, name)}
    _remove_links(folder, but=inputs)
    for name in sorted(inputs):
        _link(root.resolve() / name, folder / name)
    for name in changed + [name for name in new if _top(name) != INPUTS]:
        if _top(name) in but:
            continue
        if (root / name).is_file():
            _copy(root / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def _top(name: str) -> str:
    return name.split("/", maxsplit=1)[0]


def _files(root: Path, name: str) -> Iterator[str]:
    """Yield an untracked name, or the files of an untracked repository (a cloned model), which git lists only as a
    folder."""
    if not name.endswith("/"):
        yield name
        return
    for path in (root / name).rglob("*"):
        file = path.relative_to(root)
        if ".git" not in file.parts and (path.is_file() or path.is_symlink()):
            yield file.as_posix()


def _remove_links(folder: Path, *, but: Collection[str]) -> None:
    """Remove earlier links to files that the checkout no longer has; the workspace's own files stay."""
    for name in listed(folder, "ls-files", "--others", "-z", INPUTS):
        place = folder / name
        if place.is_symlink() and name not in but:
            place.unlink()
            with contextlib.suppress(OSError):  # is not empty
                for parent in place.parents[: len(Path(name).parts) - 2]:
                    parent.rmdir()


def _link(source: Path, target: Path) -> None:
    if target.is_symlink() and os.readlink(target) == str(source):
        return
    if not source.exists():
        raise PipelineError("is a link to nothing", where=str(source), fix="fix it or remove it")
    if target.is_dir() and not target.is_symlink():
        raise PipelineError("is a folder here, but not in the checkout", where=str(target), fix="remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft = target.with_name(f".{target.name}.link")  # after a kill the next start's _remove_links removes it
        draft.symlink_to(source)
        os.replace(draft, target)
    except OSError:  # a file system without symbolic links
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its time and mode, streaming and atomically."""
    if _same(source, target):
        return
    remove_orphans(target)
    with atomic(target) as draft:
        shutil.copy2(source, draft)


def _same(source: Path, target: Path) -> bool:
    """Return whether ``target`` is a copy of ``source`` as it is now, by size and time of change."""
    if target.is_symlink() or not target.is_file():
        return False
    one, other = source.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
