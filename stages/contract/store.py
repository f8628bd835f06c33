"""The content-addressed store of what the training loop makes: ``.store/<kind>/<key[:2]>/<key>/``.

A key says what an artefact is made from (``artefacts.fingerprint``), so an artefact that is there need
never be made again. The store is ignored by git and is no DVC output: DVC deletes outputs before it
runs a stage, and what a killed run left here is exactly what the next run continues from.

    python -m stages.contract.store                      what is there, and how large
    python -m stages.contract.store --prune checkpoint   remove a kind (or `all`), older than --days
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.contract.errors import PipelineError, command

STORE = ".store"
ROOT_VARIABLE = "R1SEARCHER_STORE"  # where several workspaces share one store
_DRAFTS = ".drafts"
_DRAFT_DAYS = 1.0  # a draft untouched for so long belongs to a run that was killed


@dataclass(frozen=True)
class Entry:
    """A finished artefact: its folder, size in bytes, and age in days."""

    kind: str
    key: str
    path: Path
    size: int
    days: float


class Store:
    """Artefacts by kind and key. Safe with several writers: whoever finishes first is kept."""

    def __init__(self, root: Path | str | None = None) -> None:
        """``root``: the store's folder; default the environment's ``R1SEARCHER_STORE``, else ``.store``."""
        self.root = Path(root or os.environ.get(ROOT_VARIABLE) or STORE)

    def place(self, kind: str, key: str) -> Path:
        """Where an artefact stands, whether or not it is there."""
        return self.root / kind / key[:2] / key

    def get(self, kind: str, key: str) -> Path | None:
        """The folder of a finished artefact, or None."""
        place = self.place(kind, key)
        return place if place.is_dir() else None

    @contextlib.contextmanager
    def put(self, kind: str, key: str) -> Iterator[Path]:
        """Yield an empty draft folder; it becomes the artefact, whole, when the block ends well.

        When the block raises, nothing is stored. When another writer of the same key was first, its
        artefact is kept and this draft is dropped: equal keys mean equal content.
        """
        place = self.place(kind, key)
        draft = self.root / _DRAFTS / f"{kind}-{key[:16]}-{uuid.uuid4().hex[:8]}"
        draft.mkdir(parents=True)
        try:
            yield draft
            _flush(draft)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(draft, place)
            except OSError:  # a folder that is there and not empty: another writer was first
                if not place.is_dir():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def remove(self, kind: str, key: str) -> None:
        """Remove an artefact, where it is there. It is renamed away first, so that no reader meets half of it."""
        gone = self.root / _DRAFTS / f"pruned-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.place(kind, key), gone)
        shutil.rmtree(gone, ignore_errors=True)

    def entries(self) -> list[Entry]:
        """Every finished artefact, by kind and key."""
        now = time.time()
        found = []
        for path in sorted(self.root.glob("[!.]*/??/*")):
            with contextlib.suppress(FileNotFoundError):  # pruned by another process meanwhile
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                days = (now - path.stat().st_mtime) / 86400
                found.append(Entry(path.parent.parent.name, path.name, path, size, days))
        return found

    def prune(self, kind: str | None = None, *, days: float = 0.0) -> list[Entry]:
        """Remove artefacts (of a kind) older than ``days``, and drafts of killed runs. Returns the removed."""
        removed = [entry for entry in self.entries() if kind in (None, entry.kind) and entry.days >= days]
        drafts = self.root / _DRAFTS
        drafts.mkdir(parents=True, exist_ok=True)
        for entry in removed:
            self.remove(entry.kind, entry.key)
        for draft in drafts.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if (time.time() - draft.stat().st_mtime) / 86400 > _DRAFT_DAYS:
                    shutil.rmtree(draft, ignore_errors=True)
        return removed


def _flush(folder: Path) -> None:
    """Bring a folder's files to the disk, so that a rename never outlives what it names."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())


def link_or_copy(source: Path, target: Path) -> None:
    """Put a stored file at ``target``: a hard link where the file system allows, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def link_tree(source: Path, target: Path) -> None:
    """``link_or_copy`` of every file of a folder."""
    for file in sorted(source.rglob("*")):
        if file.is_file():
            link_or_copy(file, target / file.relative_to(source))


def readable_size(size: float) -> str:
    """1536 -> '1.5 KB'."""
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"


def main() -> None:
    """List or prune the store."""
    parser = argparse.ArgumentParser(prog="python -m stages.contract.store", description="List or prune the store.")
    parser.add_argument("--root", help="the store's folder (default: $R1SEARCHER_STORE or .store)")
    parser.add_argument("--prune", metavar="KIND", help="remove the artefacts of a kind, or `all`")
    parser.add_argument("--days", type=float, default=0.0, help="with --prune: only what is older than so many days")
    arguments = parser.parse_args()
    store = Store(arguments.root)
    if arguments.prune:
        kinds = sorted({entry.kind for entry in store.entries()})
        if arguments.prune != "all" and arguments.prune not in kinds:
            raise PipelineError(
                f"no artefacts of kind {arguments.prune!r}", where=str(store.root), fix=f"kinds: {', '.join(kinds)}"
            )
        removed = store.prune(None if arguments.prune == "all" else arguments.prune, days=arguments.days)
        print(f"removed {len(removed)} artefacts, {readable_size(sum(entry.size for entry in removed))}")
    entries = store.entries()
    for kind in sorted({entry.kind for entry in entries}):
        chosen = [entry for entry in entries if entry.kind == kind]
        oldest = max(entry.days for entry in chosen)
        size = readable_size(sum(entry.size for entry in chosen))
        print(f"{kind:<12} {len(chosen):>6} artefacts {size:>10}   oldest {oldest:.1f} days")
    print(f"{'in all':<12} {len(entries):>6} artefacts {readable_size(sum(entry.size for entry in entries)):>10}")


if __name__ == "__main__":
    raise SystemExit(command(main)())
