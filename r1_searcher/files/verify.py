"""Check every stored file against the checksum that was written with it.

    python -m r1_searcher.files.verify            store, outputs, index, DVC's cache; exits with 1 if any is damaged
    python -m r1_searcher.files.verify --repair   and move damaged files aside: the next run makes them again

Damaged artefacts of the store go to ``.store/.damaged``. So do damaged output files and objects of DVC's cache, which
DVC itself trusts unread: `dvc repro` then restores the file from the intact copy, or runs the stage again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_searcher.errors import PipelineError, command
from r1_searcher.files import sums
from r1_searcher.files.store import DAMAGED, Store, readable_size
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.shown import show
from r1_searcher.texts import parse_json, parse_yaml

_LOCK = Path("dvc.lock")
OUTPUTS = Path("data")
_OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")


@dataclass(frozen=True)
class Fault:
    """A damaged file: what to set aside (its artefact, or the file with its checksums), what is wrong, what to do."""

    file: Path
    units: tuple[Path, ...]
    what: str
    remedy: str


@dataclass
class VerifiedFiles:
    """Counts of what was read."""

    files: int = 0
    size: int = 0
    without: int = 0  # artefacts and outputs without checksums

    def add(self, path: Path) -> None:
        self.files += 1
        self.size += path.stat().st_size


def faults(store: Store, seen: VerifiedFiles, *, lock: Path = _LOCK, outputs: Path = OUTPUTS) -> Iterator[Fault]:
    """Yield every damaged file of the store, the outputs and DVC's cache, as it is found."""
    yield from _in_store(store, seen)
    yield from _in_records(store, seen)
    yield from _in_outputs(outputs, seen)
    yield from _singles(outputs, seen)
    cache = cache_folder()
    yield from in_cache(cache, seen)
    yield from _in_lock(lock, cache, seen)


def _in_records(store: Store, seen: VerifiedFiles) -> Iterator[Fault]:
    """Check the databases of recorded searches with SQLite."""
    for path in sorted(store.root.glob("searches/*.sqlite")):
        seen.add(path)
        try:
            with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
                said = str(database.execute("pragma integrity_check").fetchone()[0])
        except sqlite3.DatabaseError as error:
            said = str(error)
        if said != "ok":
            remedy = f"rm {path}; searches are then made and recorded again"
            units = (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm")))
            yield Fault(path, units, f"a damaged database: {' '.join(said.split())}", remedy)


def _in_store(store: Store, seen: VerifiedFiles) -> Iterator[Fault]:
    for entry in store.entries():
        try:
            checked = sums.check(entry.path)
        except sums.Damaged as error:
            yield Fault(error.file, (entry.path,), error.what, f"rm -r {entry.path}; the next run makes it again")
        except FileNotFoundError:  # removed meanwhile
            continue
        else:
            seen.without += not checked
        for path in entry.path.rglob("*"):
            if path.is_file():
                seen.add(path)


def _in_outputs(outputs: Path, seen: VerifiedFiles) -> Iterator[Fault]:
    for listed in sorted(outputs.rglob(sums.SUMS_FILE)):
        folder = listed.parent
        if any(part.startswith(".") for part in folder.relative_to(outputs).parts):
            continue
        try:
            names = sums.read(folder) or {}
        except sums.Damaged as error:
            yield _output_fault(error.file, error.what)
            continue
        for name, wanted in names.items():
            path = folder / name
            if not path.is_file():
                yield _output_fault(path, "is missing")
                continue
            seen.add(path)
            if sums.sha256_file(path) != wanted:
                yield _output_fault(path, f"its sha256 is not {wanted[:12]}, which was written")


def _singles(outputs: Path, seen: VerifiedFiles) -> Iterator[Fault]:
    """Check single files with a checksum beside them."""
    for place in sorted(outputs.rglob(f"?*{sums.BESIDE}")):
        path = place.with_name(place.name.removesuffix(sums.BESIDE))
        if place.name == sums.SUMS_FILE or any(part.startswith(".") for part in path.relative_to(outputs).parts):
            continue
        try:
            sums.check_single(path)
        except sums.Damaged as error:
            yield _fault(error.file, error.what, (path, place))
        else:
            seen.add(path)


def _output_fault(path: Path, what: str) -> Fault:
    listed = [folder / sums.SUMS_FILE for folder in list(path.parents)[:-1] if (folder / sums.SUMS_FILE).is_file()][:1]
    return _fault(path, what, (path, *listed))


def _fault(path: Path, what: str, units: tuple[Path, ...]) -> Fault:
    # Either file may be the damaged one. DVC restores both, but would not check again one that seems as old as before.
    gone = " ".join(str(unit) for unit in dict.fromkeys(units))
    return Fault(path, units, what, f"rm -f {gone}; dvc repro (DVC's cache has them, or they are made again)")


def cache_folder() -> Path:
    """Return where DVC keeps its objects: ``.dvc/cache``, or what its configuration says."""
    run = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=False)
    said = run.stdout.strip()
    return Path(said if run.returncode == 0 and said else ".dvc/cache") / "files" / "md5"


def in_cache(cache: Path, seen: VerifiedFiles) -> Iterator[Fault]:
    """Check the objects of DVC's cache against their names."""
    for path in sorted(cache.glob("??/*")):
        name = path.relative_to(cache).as_posix()
        if not _OBJECT.fullmatch(name):
            continue
        seen.add(path)
        if md5_file(path) != name.replace("/", "").removesuffix(".dir"):
            remedy = f"rm -f {path}, and the output made from it; dvc repro"
            yield Fault(path, (path,), "an object in DVC's cache that does not match its name", remedy)


def md5_file(path: Path) -> str:
    """Return the md5 by which DVC names a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _in_lock(lock: Path, cache: Path, seen: VerifiedFiles) -> Iterator[Fault]:
    """Check single-file outputs without checksums (tables, metrics) against dvc.lock's md5."""
    for path, wanted in _locked(lock, cache):
        if not path.is_file() or _has_sums(path):
            continue
        seen.add(path)
        if md5_file(path) != wanted:
            remedy = f"rm {path}; dvc repro"
            yield Fault(path, (path,), f"is not what {lock} says: damaged, or changed since", remedy)


def _has_sums(path: Path) -> bool:
    if path.name.endswith(sums.BESIDE) or sums.checksum_path(path).is_file():
        return True
    return any((folder / sums.SUMS_FILE).is_file() for folder in [*path.parents][:-1])


def _locked(lock: Path, cache: Path) -> Iterator[tuple[Path, str]]:
    """Yield every output file that dvc.lock names, with its md5; a folder's are listed in the cache."""
    try:
        stages = (parse_yaml(lock.read_text(encoding="utf-8"), where=str(lock)) or {}).get("stages") or {}
        outs = [(str(out["path"]), str(out.get("md5", ""))) for one in stages.values() for out in one.get("outs", [])]
    except FileNotFoundError:
        return
    except PipelineError as error:
        raise PipelineError(f"cannot be read: {error.what}", where=str(lock), fix=f"git restore {lock}") from None
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"cannot be read: {reason}", where=str(lock), fix=f"git restore {lock}") from None
    for place, md5 in outs:
        if not md5.endswith(".dir"):
            yield Path(place), md5
            continue
        for name, part in _listed(cache / md5[:2] / md5[2:]):
            yield Path(place) / name, part


def _listed(place: Path) -> list[tuple[str, str]]:
    try:
        return [(entry["relpath"], entry["md5"]) for entry in parse_json(place.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError):  # missing, or already reported as damaged
        return []


def set_aside(fault: Fault, store: Store) -> Path:
    """Move a damaged file's unit to a folder of ``.store/.damaged``; return that folder."""
    aside = store.root / DAMAGED / f"{'-'.join(fault.file.parts[-3:]).lstrip('.')}-{uuid.uuid4().hex[:8]}"
    aside.mkdir(parents=True)
    for unit in fault.units:
        if unit.exists():
            shutil.move(unit, aside / unit.name)
    return aside


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m r1_searcher.files.verify") -> int:
    """Run the command line; return 1 if anything is damaged."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=__doc__,
        epilog=examples(prog, "", "--repair"),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--repair", action="store_true", help="move damaged files aside, so that they are made again")
    parser.add_argument("--store", help="the store's folder (default: $R1SEARCHER_STORE or .store)")
    options = parser.parse_args(arguments)
    store, seen, began = Store(options.store), VerifiedFiles(), time.monotonic()
    found: list[Fault] = []
    for fault in faults(store, seen):
        found.append(fault)
        show(f"damaged: {fault.file}: {fault.what}")
        show(f"  set aside as {set_aside(fault, store)}" if options.repair else f"  {fault.remedy}")
    verdict = f"{len(found)} damaged" if found else "none damaged"
    show(f"{seen.files:,} files, {readable_size(seen.size)}, {time.monotonic() - began:.0f} s: {verdict}")
    for entries, what in ((store.drafts(), "unfinished drafts"), (store.damaged(), "set aside as damaged")):
        if entries:
            size = readable_size(sum(entry.size for entry in entries))
            show(f"the store also holds {len(entries)} {what}, {size} (python -m r1_searcher.files.store)")
    if seen.without:
        show(f"{seen.without} artefacts are too old to have checksums; they get them when next used")
    if found and not options.repair:
        show(f"to move them all aside: {sums.REPAIR}; then rerun your command")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
