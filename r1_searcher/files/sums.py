"""Sha256 of written files, kept beside them and verified when a process first reads them.

A folder that is written whole (an output, an artefact of the store) holds ``files.sha256`` in coreutils' format:
``sha256sum --check files.sha256`` works there. It lists every file except hidden ones. A subfolder with its own
checksums is listed by their hash, so that nothing is hashed twice. A folder without the file is not ours, or older, and
is accepted. A single-file output (``checksum_after``) has its checksum in ``FILE.sha256`` beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from r1_searcher.errors import PipelineError

SUMS_FILE = "files.sha256"
BESIDE = ".sha256"  # suffix of a single file's checksum
REPAIR = "python -m r1_searcher.files.verify --repair"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
_LEVELS = 4  # how many folders above a file its checksums may be
_SETTLED = 0.1  # seconds after which a change of a file is sure to change its time too
_LARGE = 1 << 26  # bytes from which files of a folder are hashed in parallel


class Damaged(PipelineError):
    """A file differs from what was written; ``file`` is its path."""

    def __init__(self, what: str, file: Path, sums: str = f"{SUMS_FILE} above it") -> None:
        self.file = file
        super().__init__(
            what,
            where=str(file),
            fix=f"damaged: `{REPAIR}` moves it aside, then `dvc repro` makes it again; "
            f"if you changed it on purpose, remove {sums}",
        )


@dataclass(frozen=True)
class _File:
    """A file at the time it was hashed; a renamed or linked file counts as the same."""

    path: Path = field(compare=False)
    device: int
    inode: int
    size: int
    changed: int

    @classmethod
    def at(cls, path: Path) -> _File:
        found = os.stat(path)
        return cls(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _cached_hash(file: _File) -> str:
    return _hashed(file.path)


def _hashed(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_file(path: Path | str) -> str:
    """Return the sha256 of a file, read once per process as long as its size and time of change are unchanged."""
    file = _File.at(Path(path))
    if time.time() - file.changed / 1e9 < _SETTLED and file.size < _LARGE:
        return _hashed(file.path)  # it may change once more within one tick of the file system's clock
    return _cached_hash(file)


def forget_hashes() -> None:
    """Read every file anew, as a new process would."""
    _cached_hash.cache_clear()


def write(folder: Path, target: Path | None = None) -> None:
    """Write the checksums of a finished folder that is not yet in place (to ``target``; default: into it).

    Existing checksums (copied along with the files) are compared instead. Raises ``Damaged`` for files that were
    damaged on the way.
    """
    if (folder / SUMS_FILE).exists():
        check(folder)
        return
    names = sorted(_listed(folder))
    sums = _all_sums([folder / name for name in names])
    text = "".join(f"{value}  {name}\n" for name, value in zip(names, sums, strict=True))
    (target or folder / SUMS_FILE).write_bytes(text.encode("utf-8", "surrogateescape"))


def check_replaceable(folder: Path) -> None:
    """Raise ``PipelineError`` for a place of a user's whose content is lost if a folder is written there whole: a file,
    or a folder that has files and was not written by this project."""
    if folder.is_dir() and ((folder / SUMS_FILE).is_file() or not any(folder.iterdir())):
        return
    if folder.is_symlink() or folder.exists():
        what = "a folder with other files" if folder.is_dir() else "not a folder"
        raise PipelineError(f"{what}, which would be replaced", where=str(folder), fix="choose another place")


def renew(folder: Path) -> None:
    """Rewrite a folder's checksums after an intended change."""
    (folder / SUMS_FILE).unlink(missing_ok=True)
    write(folder)


def _listed(folder: Path, above: str = "") -> Iterator[str]:
    """Yield the names that a folder's checksums cover: its files and those below; of a subfolder with checksums, only
    these."""
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or (entry.name == SUMS_FILE and not above):
            continue
        if not entry.is_dir():
            yield above + entry.name
        elif (Path(entry.path) / SUMS_FILE).is_file():
            yield f"{above}{entry.name}/{SUMS_FILE}"
        else:
            yield from _listed(Path(entry.path), f"{above}{entry.name}/")


def _all_sums(files: list[Path]) -> list[str]:
    """Hash several large files in parallel: hashing releases the GIL."""
    if sum(path.stat().st_size >= _LARGE for path in files) < 2:
        return [sha256_file(path) for path in files]
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(sha256_file, files))


def read(folder: Path) -> dict[str, str] | None:
    """Return a folder's checksums, name → sha256; None if it has none. Raises ``Damaged`` for a malformed file."""
    try:
        text = (folder / SUMS_FILE).read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    lines = [_LINE.fullmatch(line) for line in text.split("\n")[:-1]]
    found = {match[2]: match[1] for match in lines if match is not None}
    if (text and not text.endswith("\n")) or len(found) != len(lines):
        raise Damaged("is truncated, or not a list of sha256 sums", folder / SUMS_FILE)
    return found


def check(folder: Path) -> bool:
    """Verify the files of a folder and its subfolders; return False if it has no checksums.

    Raises ``Damaged`` for the first file that is missing, unlisted, or different.
    """
    sums = read(folder)
    if sums is None:
        return False
    there = set(_listed(folder))
    for name in sorted(there ^ sums.keys()):
        if name in sums or not name.endswith(f"/{SUMS_FILE}"):  # a folder that was added below has its own checksums
            raise Damaged(f"is not in {SUMS_FILE}" if name in there else "is missing", folder / name)
    files = [folder / name for name in sums]
    for path, wanted, found in zip(files, sums.values(), _all_sums(files), strict=True):
        if wanted != found:
            raise Damaged(f"its sha256 is {found[:12]}, but {wanted[:12]} was written", path)
        if path.name == SUMS_FILE:
            check(path.parent)
    return True


def check_files(paths: Iterable[Path]) -> None:
    """Verify each file (``check_file``); several large ones are read in parallel."""
    paths = list(paths)
    _all_sums([path for path in paths if path.is_file()])  # caches the sums
    for path in paths:
        check_file(path)


@contextlib.contextmanager
def checksum_after(path: Path) -> Iterator[None]:
    """Write the checksum of the single-file output ``path`` after the block; a kill in between leaves none."""
    checksum_path(path).unlink(missing_ok=True)
    yield
    draft = checksum_path(path).with_name(f".{path.name}.{os.getpid()}.draft")
    draft.write_text(f"{sha256_file(path)}  {path.name}\n", encoding="utf-8")
    os.replace(draft, checksum_path(path))


def checksum_path(path: Path) -> Path:
    """Return the path of a single file's checksum."""
    return path.with_name(path.name + BESIDE)


def check_single(path: Path) -> bool:
    """Verify a single file against the checksum beside it; return False if there is none."""
    try:
        line = _LINE.fullmatch(checksum_path(path).read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n"))
    except FileNotFoundError:
        return False
    if line is None or line[2] != path.name:
        raise Damaged("is not the sha256 sum of its file", checksum_path(path), "it")
    if not path.is_file():
        raise Damaged("is missing", path, checksum_path(path).name)
    if (found := sha256_file(path)) != line[1]:
        raise Damaged(f"its sha256 is {found[:12]}, but {line[1][:12]} was written", path, checksum_path(path).name)
    return True


def check_file(path: Path) -> bool:
    """Verify one file against its own checksum, or its folder's; return False if there is none."""
    if check_single(path):
        return True
    for folder in [*path.parents][:_LEVELS]:
        sums = read(folder)
        if sums is not None:
            name = path.relative_to(folder).as_posix()
            if name not in sums:
                raise Damaged(f"is not in {SUMS_FILE}", path)
            if not path.is_file():
                raise Damaged("is missing", path)
            if (found := sha256_file(path)) != sums[name]:
                raise Damaged(f"its sha256 is {found[:12]}, but {sums[name][:12]} was written", path)
            return True
        if folder.name.startswith("."):  # a draft, or the store: folders above do not know it
            break
    return False
