"""Flip one bit at a time in every kind of file of a finished run: is any damaged file used silently?

    python benchmarks/bit_flips.py .workspaces/smoke --flips 400

Each flip is made in a copy of one folder (an artefact of the store, an output, an object of DVC's cache) with the file
times kept, as on a failing disk; then the folder is read as the pipeline reads it in a new process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from r1_searcher.errors import PipelineError
from r1_searcher.files import passages, sums, verify
from r1_searcher.files.artefacts import read_table, sha256_tree
from r1_searcher.files.store import Store
from r1_searcher.files.weights import check_policy

Check = Callable[[Path], None]  # reads a folder; raises PipelineError if it is damaged


def flip(file: Path, draw: random.Random) -> str:
    """Flip one bit without changing the file's times. Returns the place."""
    before = file.stat()
    place, bit = draw.randrange(before.st_size), draw.randrange(8)
    with open(file, "r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ 1 << bit]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"byte {place}, bit {bit}"


def read_tables(folder: Path) -> None:
    """Read all tables of an output, as the next stage does."""
    for file in sorted(folder.rglob("*.parquet")):
        read_table(file)
    sums.read(folder)


def read_corpus(folder: Path) -> None:
    """Read the passages, and the output's identity as the following stages do."""
    passages.read(folder)
    sha256_tree(folder)


def read_index(folder: Path) -> None:
    """Open an index."""
    from r1_searcher.retrieval import open_index

    open_index(folder)


def read_policy(folder: Path) -> None:
    """Check a policy as an engine does before it opens it."""
    check_policy(folder)


def read_whole(folder: Path) -> None:
    """Read an output that a segment starts from, as the segment identifies it."""
    sha256_tree(folder)


def read_object(folder: Path) -> None:
    """Check DVC's cache as ``verify`` does."""
    for fault in verify.in_cache(folder, verify.VerifiedFiles()):
        raise sums.Damaged(fault.what, fault.file)


def read_store(folder: Path) -> None:
    """Read a store with one artefact; a damaged one counts as missing and is made again."""
    store = Store(folder)
    [entry] = store.entries()
    if store.get(entry.kind, entry.key) is None and [one.key[:8] for one in store.damaged()]:
        raise sums.Damaged("set aside", entry.path)


def output_kinds(data: Path) -> dict[str, tuple[list[Path], Check]]:
    """Return a run's outputs by kind: folders, and how they are read."""
    segments = sorted(path for path in (data / "train").glob("*") if path.is_dir())
    found: dict[str, tuple[list[Path], Check]] = {
        "corpus": ([data / "corpus"], read_corpus),
        "questions": ([data / "questions"], read_whole),
        "index": ([data / "index"], read_index),
        "base_model": ([data / "base_model"], read_policy),
        "policy": ([segment / "policy" for segment in segments], read_policy),
        "trainer_state": ([segment / "trainer_state" for segment in segments], read_whole),
        "evaluation": ([data / "evaluation"], read_tables),
    }
    for kind in ("mixes", "difficulty"):  # single files, each with its checksum beside it
        found[kind] = ([data / kind], read_tables)
    for kind in ("rollouts", "rewards", "advantages"):
        found[kind] = ([segment / kind for segment in segments], read_tables)
    return {kind: (there, check) for kind, (all_, check) in found.items() if (there := [p for p in all_ if p.is_dir()])}


def trials(
    folders: list[Path], check: Check, flips: int, draw: random.Random, copy: Callable[[Path, Path], Path]
) -> Iterator[tuple[str, str]]:
    """Return the outcome and place of each flip. ``copy`` makes a copy of a folder for ``check`` and returns the place
    of the folder's files in it."""
    with contextlib.redirect_stderr(open(os.devnull, "w")):
        for _ in range(flips):
            with tempfile.TemporaryDirectory() as place:
                root = Path(place) / "copy"
                inside = copy(draw.choice(folders), root)
                files = sorted(path for path in inside.rglob("*") if path.is_file() and path.stat().st_size)
                weights = [path.stat().st_size ** 0.5 for path in files]  # small files too, but large ones more often
                [file] = draw.choices(files, weights)
                where = f"{file.relative_to(inside)}, {flip(file, draw)}"
                sums.forget_hashes()
                try:
                    check(root)
                except PipelineError as error:
                    named = str(error.where or "").startswith(str(root))
                    yield "refused" if named else "refused, file not named", where
                except Exception as error:
                    yield f"traceback ({type(error).__name__})", where
                else:
                    yield "SILENT", where


def _whole(folder: Path, root: Path) -> Path:
    shutil.copytree(folder, root)
    return root


def _entry(folder: Path, root: Path) -> Path:
    return Path(shutil.copytree(folder, root.joinpath(*folder.parts[-3:])))


def _object(file: Path, root: Path) -> Path:
    place = root.joinpath(*file.parts[-2:])
    place.parent.mkdir(parents=True)
    shutil.copyfile(file, place)
    return place.parent


def run(data: Path, store: Store, cache: Path, flips: int, seed: int) -> dict[str, Counter[str]]:
    """Count outcomes by kind."""
    kinds: dict[str, tuple[list[Path], Check, Callable[[Path, Path], Path]]] = {
        f"data: {kind}": (folders, check, _whole) for kind, (folders, check) in output_kinds(data).items()
    }
    entries = store.entries()
    for kind in sorted({entry.kind for entry in entries}):
        kinds[f"store: {kind}"] = ([entry.path for entry in entries if entry.kind == kind], read_store, _entry)
    if objects := sorted(path for path in cache.glob("??/*") if path.is_file()):
        kinds["DVC cache"] = (objects, read_object, _object)
    found = {}
    for name, (folders, check, copy) in kinds.items():
        outcomes = list(trials(folders, check, flips, random.Random(f"{seed} {name}"), copy))
        found[name] = Counter(outcome for outcome, _ in outcomes)
        print(f"{name:<24} {', '.join(f'{number} {what}' for what, number in found[name].most_common())}", flush=True)
        for outcome, where in outcomes:
            if outcome != "refused":
                print(f"    {outcome}: {where}")
    return found


def main() -> int:
    """Run the command line; status 1 if a flip was used silently or caused a traceback."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workspace", type=Path, help="a finished run: the folder with its data/")
    parser.add_argument("--store", help="default: $R1SEARCHER_STORE or .store")
    parser.add_argument("--cache", type=Path, default=Path(".dvc/cache/files/md5"))
    parser.add_argument("--flips", type=int, default=400, help="per kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = run(options.workspace / "data", Store(options.store), options.cache, options.flips, options.seed)
    bad = sum(number for kind in found.values() for what, number in kind.items() if what != "refused")
    print(f"{sum(map(Counter.total, found.values()))} flips, {bad} of them not refused")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
