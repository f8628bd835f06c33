"""Files that are either whole or absent, and fingerprints of what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1_searcher.errors import PipelineError
from r1_searcher.files import sums
from r1_searcher.texts import parse_json

if TYPE_CHECKING:  # model folders are read on machines without it
    import pyarrow as pa

sha256_file = sums.sha256_file
ANEW = "truncated or changed; if a stage made it, `dvc repro` restores it"
METADATA_KEY = b"r1searcher"  # our only key in a Parquet file's schema metadata, JSON


def fingerprint(value: object) -> str:
    """Return the sha256 (64 hex digits) of a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_tree(path: Path | str) -> str:
    """Return the sha256 of a file, or of a folder's relative names and contents (without its checksum file).

    Raises ``sums.Damaged`` if a file differs from its checksum.
    """
    path = Path(path)
    if path.is_file():
        sums.check_file(path)
        return sha256_file(path)
    if not path.is_dir():
        raise PipelineError("no such file or folder", where=str(path), fix="run `dvc repro`, which makes it")
    sums.check(path)
    files = sorted(entry for entry in path.rglob("*") if entry.is_file() and entry.name != sums.SUMS_FILE)
    return fingerprint([[entry.relative_to(path).as_posix(), sha256_file(entry)] for entry in files])


def code_fingerprint(*rooms: str, without: Collection[Path] = ()) -> str:
    """Return the sha256 over the Python sources of the named rooms (``"rollout"``) or modules (``"reward/sets.py"``).

    ``without``: files to ignore.
    """
    root = Path(__file__).resolve().parent.parent
    found: list[Path] = []
    for room in rooms:
        place = root / room
        assert place.exists(), f"no room or module {room!r} under {root}"
        found += [place] if place.is_file() else sorted(place.rglob("*.py"))
    return fingerprint(
        [[path.relative_to(root).as_posix(), sha256_file(path)] for path in found if path not in without]
    )


@contextlib.contextmanager
def atomic(path: Path | str, *, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    With ``folder`` the path is an empty folder, which then replaces a folder at ``path``, with the checksums of its
    files (``sums``). If the block raises, the temporary path is removed and ``path`` is unchanged. Drafts that killed
    processes left for the same path are removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    _remove(draft)
    remove_orphans(path)
    if folder:
        draft.mkdir()
    try:
        yield draft
        if folder:
            sums.write(draft)
        if draft.is_file():
            with open(draft, "rb") as file:
                os.fsync(file.fileno())
        if folder and path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            _remove(old)
            os.rename(path, old)
            os.rename(draft, path)
            _remove(old)
        else:
            os.replace(draft, path)
    finally:
        _remove(draft)


def remove_orphans(path: Path | str) -> list[Path]:
    """Remove the drafts of ``path`` that killed processes left, which may fill a disk; return them."""
    path = Path(path)
    found = []
    for draft in _left(path):
        owner = draft.name.split(".")[-2]
        if owner.isdecimal() and int(owner) != os.getpid() and not _runs(int(owner)):
            _remove(draft)
            found.append(draft)
    return found


def _left(path: Path) -> list[Path]:
    """Return the drafts of ``path``, and former contents that were being replaced."""
    if not path.parent.is_dir():
        return []
    begin = f".{path.name}."
    with os.scandir(path.parent) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(begin) and entry.name.endswith((".draft", ".old"))
        ]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file whole."""
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: object) -> None:
    """Write JSON whole, with sorted keys and two spaces, so that equal values give equal files."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON. Raises ``PipelineError`` that names a missing, broken or damaged file."""
    try:
        sums.check_file(Path(path))
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError("no such file", where=str(path), fix="run `dvc repro`, which makes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PipelineError(f"not JSON: {error}", where=str(path), fix=ANEW) from None


def write_table(path: Path | str, table: pa.Table, metadata: Mapping[str, object] | None = None) -> None:
    """Write Parquet whole. ``metadata`` goes into the schema as JSON; it must not contain times or host names."""
    import pyarrow.parquet as pq

    if metadata is not None:
        packed = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
        table = table.replace_schema_metadata({METADATA_KEY: packed.encode()})
    with atomic(path) as draft:
        pq.write_table(table, draft, compression="zstd")


def read_table(path: Path | str, schema: pa.Schema | None = None) -> pa.Table:
    """Read Parquet and check it against ``schema``. Raises ``PipelineError`` for a missing or mistyped column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(path):
        sums.check_file(Path(path))
        table = pq.read_table(path)
    if schema is None:
        return table
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise PipelineError(
            f"column {missing[0]!r} is missing", where=str(path), fix=f"columns needed: {', '.join(schema.names)}"
        )
    metadata = table.schema.metadata
    try:
        return table.select(schema.names).cast(schema).replace_schema_metadata(metadata)
    except pa.ArrowException as error:
        raise PipelineError(f"a column has the wrong type: {error}", where=str(path)) from None


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Return our metadata of a Parquet file; empty if there is none."""
    import pyarrow.parquet as pq

    with reading(path):
        sums.check_file(Path(path))
        metadata = pq.read_schema(path).metadata or {}
        found = parse_json(metadata.get(METADATA_KEY, b"{}"))
        if not isinstance(found, dict):
            raise ValueError("its metadata is not a JSON object")
    return found


def _unreadable() -> tuple[type[Exception], ...]:
    """Return the errors of damaged files; Arrow's only if it was loaded, because nothing else raises them."""
    own = (OSError, ValueError, MemoryError, OverflowError)
    arrow = sys.modules.get("pyarrow")
    return own if arrow is None else (arrow.ArrowException, *own)


@contextlib.contextmanager
def reading(path: Path | str, *, fix: str = "run `dvc repro`, which makes it", kind: str = "Parquet") -> Iterator[None]:
    """Turn pyarrow's errors about an unreadable file into a one-line ``PipelineError`` that names it.

    ``fix``: what to do if the file does not exist. The disk's own errors are not changed.
    """
    try:
        yield
    except FileNotFoundError:
        raise PipelineError("no such file", where=str(path), fix=fix) from None
    except IsADirectoryError:
        raise PipelineError("is a folder, not a file", where=str(path)) from None
    except _unreadable() as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        raise PipelineError(f"not a {kind} file, or a damaged one: {reason}", where=str(path), fix=ANEW) from None
