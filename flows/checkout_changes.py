"""What a checkout has beside its commit, brought into a workspace: changed and new files, and the user's own inputs.

New files in ``inputs/`` become symbolic links, everything else copies. The inputs may be as large as Wikipedia, and a
link costs neither time nor disk. DVC looks through it: it hashes the file behind, and knows it again by that file's
size and time, which are also what a corpus that was cut off is known by (``r1_searcher.corpus.resume``). Not a hard
link: whoever saves by writing a new file in the place of the old would leave the workspace with the old one; a mode
that is set on one name (DVC protects what it links) holds for both; and an ``inputs/`` that is mounted into a container
is another file system. Not a reflink: only some file systems have it, and a file of another inode is hashed again. The
price is that an input that is edited while a stage reads it is read as it is then, as in the checkout itself. Code and
settings are small and are copied, so that a run's do not change under it.
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
    """Bring what is changed or new in ``root`` against its commit into ``folder``, and remove what is removed.

    ``but``: names at the top that are left out. What is there already and has not changed is left alone.
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
    """An untracked name; of a folder that is another repository (a model that was cloned) git names no file."""
    if not name.endswith("/"):
        yield name
        return
    for path in (root / name).rglob("*"):
        file = path.relative_to(root)
        if ".git" not in file.parts and (path.is_file() or path.is_symlink()):
            yield file.as_posix()


def _remove_links(folder: Path, *, but: Collection[str]) -> None:
    """Remove earlier links to what the checkout no longer has; the workspace's own files stay."""
    for name in listed(folder, "ls-files", "--others", "-z", INPUTS):
        place = folder / name
        if place.is_symlink() and name not in but:
            place.unlink()
            with contextlib.suppress(OSError):  # not empty
                for parent in place.parents[: len(Path(name).parts) - 2]:
                    parent.rmdir()


def _link(source: Path, target: Path) -> None:
    if target.is_symlink() and os.readlink(target) == str(source):
        return
    if not source.exists():
        raise PipelineError("is a link to nothing", where=str(source), fix="mend it or remove it")
    if target.is_dir() and not target.is_symlink():
        raise PipelineError("is a folder, and none in the checkout", where=str(target), fix="remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft = target.with_name(f".{target.name}.link")  # a killed one's goes with the next start's _remove_links
        draft.symlink_to(source)
        os.replace(draft, target)
    except OSError:  # a file system without symbolic links
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """The file with its time and mode: a stream, never half a file."""
    if _same(source, target):
        return
    remove_orphans(target)
    with atomic(target) as draft:
        shutil.copy2(source, draft)


def _same(source: Path, target: Path) -> bool:
    """Whether ``target`` is a copy of ``source`` as it is now, by size and time of change."""
    if target.is_symlink() or not target.is_file():
        return False
    one, other = source.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
