"""The content-addressed store of training artefacts: ``.store/<kind>/<key[:2]>/<key>/``.

A key identifies what an artefact is made from (``artefacts.fingerprint``), so a stored artefact never has to be made
again. The store is ignored by git and is not a DVC output: DVC deletes outputs before it runs a stage, while the next
run continues from what a killed run left here.

Every artefact holds the sha256 of its files (``sums``), which are verified when a process first gets it. A damaged one
is moved to ``.damaged``, with a line that says so, and counts as missing, so that it is made again.

    python -m r1_searcher.files.store                      what is there, and how large
    python -m r1_searcher.files.store --prune checkpoints  remove a kind (or `all`), older than --days
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_searcher import tables
from r1_searcher.errors import PipelineError, command
from r1_searcher.files import sums
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.shown import show, show_lines

STORE = ".store"
ROOT_VARIABLE = "R1SEARCHER_STORE"  # lets several workspaces share one store
DRAFTS, DAMAGED = ".drafts", ".damaged"
_NEW = ".new-"  # prefix of a draft that no process has locked yet
_DRAFT_DAYS = 1.0  # without file locks: a draft untouched for this long belongs to a killed run


@dataclass(frozen=True)
class StoreEntry:
    """A finished artefact (or a draft, or one set aside): its folder, size in bytes, and age in days."""

    kind: str
    key: str
    path: Path
    size: int
    days: float


class Store:
    """Artefacts by kind and key. Safe for several writers: the first to finish wins."""

    def __init__(self, root: Path | str | None = None) -> None:
        """``root``: the store's folder; default the environment's ``R1SEARCHER_STORE``, else ``.store``."""
        self.root = Path(root or os.environ.get(ROOT_VARIABLE) or STORE)
        self._sound: set[Path] = set()  # artefacts that this process has verified

    def place(self, kind: str, key: str) -> Path:
        """Return an artefact's folder, whether or not it exists."""
        return self.root / kind / key[:2] / key

    def get(self, kind: str, key: str) -> Path | None:
        """Return the folder of a finished artefact, or None.

        Its files are verified once per process; a damaged artefact is set aside and counts as missing.
        """
        place = self.place(kind, key)
        if not place.is_dir():
            return None
        if place not in self._sound:
            try:
                if not sums.check(place):
                    _add_sums(place)  # older than checksums: from now on it is compared with its present content
            except sums.Damaged as error:
                self.set_aside(kind, key, error)
                return None
            except FileNotFoundError:  # another process has removed it
                return None
            self._sound.add(place)
        return place

    def set_aside(self, kind: str, key: str, why: sums.Damaged) -> None:
        """Move an artefact to ``.damaged``, so that it is made again, and say so."""
        aside = self.root / DAMAGED / f"{kind}-{key}-{uuid.uuid4().hex[:8]}"
        self._folder(aside.parent)
        with contextlib.suppress(FileNotFoundError):  # another process was first
            os.rename(self.place(kind, key), aside)
            line = f"{why.file}: {why.what}: damaged; set aside as {aside}, and made again"
            show(f"warning: {line}", file=sys.stderr)

    def differs(self, kind: str, key: str, name: str) -> bool:
        """Return whether a file of an artefact that was made again after damage differs from before."""
        again = sums.sha256_file(self.place(kind, key) / name)
        before = [_known_sums(aside, name) for aside in (self.root / DAMAGED).glob(f"{kind}-{key}-*")]
        return any(again not in known for known in before)

    @contextlib.contextmanager
    def put(self, kind: str, key: str) -> Iterator[Path]:
        """Yield an empty draft folder that becomes the artefact, whole, if the block succeeds.

        If the block raises, nothing is stored. If another writer of the same key was first, its artefact is kept and
        this draft is dropped: equal keys mean equal content.
        """
        place = self.place(kind, key)
        with self._draft(f"{kind}-{key[:16]}") as draft:
            yield draft
            sums.write(draft)
            _flush(draft)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(draft, place)
            except OSError:  # the folder exists and is not empty: another writer was first
                if not place.is_dir():
                    raise
            self._sound.discard(place)

    @contextlib.contextmanager
    def _draft(self, name: str) -> Iterator[Path]:
        """Yield a folder for an artefact in the making, locked as long as its maker lives."""
        drafts = self._folder(self.root / DRAFTS)
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        fresh, draft = drafts / (_NEW + unique), drafts / unique
        fresh.mkdir()
        held = os.open(fresh, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(fresh, draft)  # renamed only once it is locked: an unlocked draft may be dropped
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            shutil.rmtree(fresh, ignore_errors=True)
            os.close(held)

    def _folder(self, folder: Path) -> Path:
        """Create a folder of the store; a new store is closed to the machine's other users."""
        if not self.root.is_dir():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.root.mkdir(mode=0o700)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remove(self, kind: str, key: str) -> None:
        """Remove an artefact if it exists. It is renamed away first, so that no reader meets half of it."""
        place = self.place(kind, key)
        self._sound.discard(place)
        if not place.is_dir():
            return
        gone = self._folder(self.root / DRAFTS) / f"pruned-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(place, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def entries(self) -> list[StoreEntry]:
        """Return every finished artefact, by kind and key."""
        return list(_found(sorted(self.root.glob("[!.]*/??/*"))))

    def drafts(self) -> list[StoreEntry]:
        """Return drafts: artefacts in the making, and leftovers of killed runs."""
        return list(_found(sorted((self.root / DRAFTS).glob("*"))))

    def damaged(self) -> list[StoreEntry]:
        """Return the artefacts that were set aside."""
        return list(_found(sorted((self.root / DAMAGED).glob("*"))))

    def drop_drafts(self) -> list[StoreEntry]:
        """Remove the drafts of killed runs, but none of a living one; return the removed."""
        removed = [draft for draft in self.drafts() if _abandoned(draft)]
        for draft in removed:
            shutil.rmtree(draft.path, ignore_errors=True)
        return removed

    def prune(self, kind: str | None = None, *, days: float = 0.0) -> list[StoreEntry]:
        """Remove artefacts (of a kind) older than ``days``, and drafts of killed runs; without a kind also damaged
        ones. Return the removed artefacts."""
        removed = [entry for entry in self.entries() if kind in (None, entry.kind) and entry.days >= days]
        for entry in removed:
            self.remove(entry.kind, entry.key)
        self.drop_drafts()
        if kind is None:
            for entry in self.damaged():
                if entry.days >= days:
                    shutil.rmtree(entry.path, ignore_errors=True)
        return removed


def _known_sums(aside: Path, name: str) -> set[str]:
    """Return what a file that was set aside may have been: its checksum or, if that is damaged, its own sha256."""
    known: set[str] = set()
    with contextlib.suppress(sums.Damaged, FileNotFoundError):
        known.add((sums.read(aside) or {}).get(name, ""))
    with contextlib.suppress(FileNotFoundError):
        known.add(sums.sha256_file(aside / name))
    return known


def _found(paths: list[Path]) -> Iterator[StoreEntry]:
    now = time.time()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another process has pruned it
            size = sum(
                file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != sums.SUMS_FILE
            )
            yield StoreEntry(path.parent.parent.name, path.name, path, size, (now - path.stat().st_mtime) / 86400)


def _abandoned(draft: StoreEntry) -> bool:
    """Return whether no process holds a draft: its lock ends with the process that made it."""
    if draft.path.name.startswith(_NEW):  # its maker is about to lock it, or was killed before
        return draft.days * 86400 > 60
    try:
        held = os.open(draft.path, os.O_RDONLY)
    except OSError:  # already gone
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return draft.days > _DRAFT_DAYS
    finally:
        os.close(held)
    return True


def _add_sums(place: Path) -> None:
    """Add checksums to an artefact without them, keeping its age."""
    before = place.stat()
    with contextlib.suppress(PermissionError):  # another user's store: read as it is
        draft = place / f".{sums.SUMS_FILE}.{uuid.uuid4().hex[:8]}"
        sums.write(place, draft)
        os.replace(draft, place / sums.SUMS_FILE)
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def _flush(folder: Path) -> None:
    """Flush a folder's files to disk, so that a rename never outlives its content."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())


def link_or_copy(source: Path, target: Path) -> None:
    """Place a stored file at ``target``: a hard link if the file system allows it, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def link_tree(source: Path, target: Path) -> None:
    """Apply ``link_or_copy`` to every file of a folder."""
    for file in sorted(source.rglob("*")):
        if file.is_file():
            link_or_copy(file, target / file.relative_to(source))


def readable_size(size: float) -> str:
    """Format a size: 1536 -> '1.5 KB'."""
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m r1_searcher.files.store") -> None:
    """List or prune the store."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="List or prune the store.",
        epilog=examples(prog, "", "--prune all --days 7"),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--root", help="the store's folder (default: $R1SEARCHER_STORE or .store)")
    parser.add_argument("--prune", metavar="KIND", help="remove all artefacts of this kind, or `all`")
    parser.add_argument(
        "--days", type=float, default=0.0, metavar="N", help="with --prune: only artefacts older than N days"
    )
    options = parser.parse_args(arguments)
    store = Store(options.root)
    if options.prune:
        kinds = sorted({entry.kind for entry in store.entries()})
        if options.prune != "all" and options.prune not in kinds:
            raise PipelineError(
                f"no artefacts of kind {options.prune!r}", where=str(store.root), fix=f"kinds: {', '.join(kinds)}"
            )
        removed = store.prune(None if options.prune == "all" else options.prune, days=options.days)
        show(f"removed {len(removed)} artefacts, {readable_size(sum(entry.size for entry in removed))}")
    entries, drafts = store.entries(), store.drafts()
    abandoned = [draft for draft in drafts if _abandoned(draft)]
    kinds = sorted({entry.kind for entry in entries})
    rows = [
        *((kind, "artefacts", [entry for entry in entries if entry.kind == kind]) for kind in kinds),
        ("(drafts)", "in the making", [draft for draft in drafts if draft not in abandoned]),
        ("(drafts)", "of killed runs", abandoned),
        ("(damaged)", "set aside", store.damaged()),
    ]
    total = _cells("in all", "artefacts", entries)
    show_lines(tables.text([*(_cells(*row) for row in rows if row[2]), total], left=(0, 1)))


def _cells(kind: str, what: str, entries: list[StoreEntry]) -> list[str]:
    oldest = f"oldest {max(entry.days for entry in entries):.1f} days" if entries else ""
    return [kind, f"{len(entries)} {what}", readable_size(sum(entry.size for entry in entries)), oldest]


if __name__ == "__main__":
    raise SystemExit(main())
