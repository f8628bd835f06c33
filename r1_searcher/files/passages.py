"""The passages of a corpus: one reader and one writer for every room.

A corpus folder holds ``passages.parquet`` or, if there are too many passages for one file, ``passages/`` with
part-00000.parquet, part-00001.parquet, … and ``manifest.json`` (rows, bytes and sha256 per part). The same functions
read both, in corpus order. Batched reading and writing keep one row group in memory, however many passages there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.files.store import link_or_copy
from r1_searcher.types import schemas

OnPart = Callable[[Path, dict[str, Any]], None]
SINGLE_FILE, _PARTS_FOLDER, _MANIFEST = "passages.parquet", "passages", "manifest.json"
ROWS_A_GROUP = 16_384  # about 10 MB at 100 words each: what reader and writer keep in memory
_FIX = "run `dvc repro corpus`, or `python -m stages.corpus`"


def parts(corpus: Path | str) -> list[Path]:
    """Return the Parquet files of a corpus, in order. ``corpus``: its folder, its passages.parquet, or its passages/.

    Raises ``PipelineError`` if there are none, or a part is missing, foreign or of another size than in the manifest.
    (Parts without a manifest are accepted.)
    """
    corpus = Path(corpus)
    if corpus.is_file():
        return [corpus]
    single, folder = corpus / SINGLE_FILE, corpus / _PARTS_FOLDER
    if single.is_file():
        if folder.is_dir():
            raise PipelineError(f"both {SINGLE_FILE} and {_PARTS_FOLDER}/ are here", where=str(corpus), fix=_FIX)
        return [single]
    if not folder.is_dir():
        folder = corpus
    found = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not found:
        missing = corpus if corpus.suffix == ".parquet" else single
        raise PipelineError("no such file", where=str(missing), fix=_FIX)
    if (folder / _MANIFEST).is_file():
        _check_manifest(folder, found)
    return found


def _check_manifest(folder: Path, found: list[Path]) -> None:
    listed = {entry["file"]: entry["bytes"] for entry in _manifest(folder)}
    there = {path.name: path.stat().st_size for path in found}
    if listed != there:
        name = min(set(listed.items()) ^ set(there.items()))[0]
        raise PipelineError(f"{name} is not what {_MANIFEST} says", where=str(folder), fix=_FIX)


def _manifest(folder: Path) -> list[dict[str, Any]]:
    entries = artefacts.read_json(folder / _MANIFEST)
    try:
        return [{name: entry[name] for name in ("file", "rows", "bytes", "sha256")} for entry in entries["parts"]]
    except (TypeError, KeyError):
        raise PipelineError("not a manifest of passages", where=str(folder / _MANIFEST), fix=_FIX) from None


def fingerprint(corpus: Path | str) -> str:
    """Return the fingerprint of the passages: the sha256 of a single file; for parts, a hash over names and sha256.

    Parts are not read again: their sha256 come from the manifest, and their sizes are compared with it. So opening an
    index of Wikipedia's size hashes no gigabytes.
    """
    files = parts(corpus)
    if len(files) == 1 and files[0].parent.name != _PARTS_FOLDER:
        return artefacts.sha256_tree(files[0])
    folder = files[0].parent
    if (folder / _MANIFEST).is_file():
        return artefacts.fingerprint([[entry["file"], entry["sha256"]] for entry in _manifest(folder)])
    return artefacts.fingerprint([[path.name, artefacts.sha256_file(path)] for path in files])


def count(corpus: Path | str) -> int:
    """Return the number of passages, from the files' footers."""
    return sum(_opened(path).metadata.num_rows for path in parts(corpus))


def batches(
    corpus: Path | str, columns: Sequence[str] = schemas.PASSAGES.names, rows: int = ROWS_A_GROUP
) -> Iterator[pa.RecordBatch]:
    """Yield the passages in batches of at most ``rows``, in order, with these ``columns`` of PASSAGES.

    Raises ``PipelineError`` for a part that is not Parquet or lacks a column, before its first row.
    """
    schema = pa.schema([schemas.PASSAGES.field(name) for name in columns])
    for path in parts(corpus):
        with _opened(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise PipelineError(
                    f"column {missing[0]!r} is missing",
                    where=str(path),
                    fix=f"columns needed: {', '.join(schemas.PASSAGES.names)}",
                )
            stream = file.iter_batches(batch_size=rows, columns=list(columns))
            while True:
                with artefacts.reading(path):
                    batch = next(stream, None)
                if batch is None:
                    break
                try:
                    yield batch.select(list(columns)).cast(schema)
                except pa.ArrowException as error:
                    raise PipelineError(f"a column has the wrong type: {error}", where=str(path)) from None


def _opened(path: Path) -> pq.ParquetFile:
    with artefacts.reading(path, fix=_FIX):
        sums.check_file(path)
        return pq.ParquetFile(path)


def read(corpus: Path | str) -> pa.Table:
    """Return all passages as one table (schema PASSAGES), for corpora that fit into memory."""
    tables = [artefacts.read_table(path, schemas.PASSAGES) for path in parts(corpus)]
    return tables[0] if len(tables) == 1 else pa.concat_tables(table.replace_schema_metadata(None) for table in tables)


def write(
    folder: Path,
    rows: Iterable[dict[str, str]],
    rows_a_part: int,
    *,
    first: Iterable[tuple[Path, dict[str, Any]]] = (),
    on_part: OnPart | None = None,
) -> int:
    """Write ``rows`` (of PASSAGES) into ``folder``, one part per ``rows_a_part``; return their number.

    Passages that fit one part become passages.parquet. ``folder`` is the draft of ``artefacts.atomic(…, folder=True)``:
    the passages become readable when it is renamed. ``first``: full parts that were written before ``rows``.
    ``on_part`` is called with each full part and its manifest entry.
    """
    place = folder / _PARTS_FOLDER
    place.mkdir()
    entries: list[dict[str, Any]] = []
    for path, entry in first:
        link_or_copy(path, place / entry["file"])
        entries.append(entry)
    stream = iter(rows)
    while True:
        path = place / f"part-{len(entries):05d}.parquet"
        written = _write_part(path, stream, rows_a_part)
        if written is not None:
            entries.append(written)
        if written is None or written["rows"] < rows_a_part:
            break
        if on_part is not None:
            on_part(path, written)
    if len(entries) > 1:
        artefacts.write_json(place / _MANIFEST, {"parts": entries})
    else:
        if entries:
            os.replace(place / entries[0]["file"], folder / SINGLE_FILE)
        place.rmdir()
    return sum(entry["rows"] for entry in entries)


def _write_part(path: Path, stream: Iterator[dict[str, str]], rows_a_part: int) -> dict[str, Any] | None:
    """Write one part from the next rows; return None, writing nothing, if there are none."""
    group = _take(stream, min(ROWS_A_GROUP, rows_a_part))
    if not group:
        return None
    number = 0
    with artefacts.atomic(path) as draft, pq.ParquetWriter(draft, schemas.PASSAGES, compression="zstd") as writer:
        while group:
            writer.write_table(pa.Table.from_pylist(group, schema=schemas.PASSAGES))
            number += len(group)
            group = _take(stream, min(ROWS_A_GROUP, rows_a_part - number))
    return {"file": path.name, "rows": number, "bytes": path.stat().st_size, "sha256": artefacts.sha256_file(path)}


def _take(stream: Iterator[dict[str, str]], number: int) -> list[dict[str, str]]:
    return [row for _, row in zip(range(number), stream, strict=False)]
