"""Records of a user's file (JSONL, JSON array, TSV, Parquet), each with its position.

`corpus` and `questions` read the same kinds of file, by the file's name. All are streamed; JSONL, JSON and TSV may be
compressed (.gz, .bz2, .zst). Every error names the file and the line (in a JSON array the item, in Parquet the row),
counted from 1.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from r1_searcher.errors import PipelineError
from r1_searcher.files import streams
from r1_searcher.files.artefacts import reading
from r1_searcher.files.json_stream import read_items
from r1_searcher.texts import parse_json

_SUFFIXES = (".jsonl", ".json", ".tsv", ".parquet")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # an escape of a surrogate


@dataclass(frozen=True)
class Record:
    """One record: ``place`` is "file, line 3" for error messages, ``number`` that line, item or row, ``fields`` the
    values by name, ``textual`` whether the file has only strings (TSV)."""

    place: str
    number: int
    fields: dict[str, Any]
    textual: bool = False


def read_records(
    path: Path,
    columns: Sequence[str],
    headerless: Sequence[str] = (),
    *,
    mapping: tuple[str, str] | None = None,
    on_bytes: streams.OnBytes | None = None,
    after: int = 0,
) -> Iterator[Record]:
    """Yield the records of ``path``, or those after line (item, row) ``after``.

    ``columns``: every name that the caller understands. Only these are read from Parquet, and a TSV file's first line
    is its header if it contains one of them. ``headerless``: the columns of a TSV file without a header; empty if a
    header is required. ``mapping``: a .json file may also be one object whose entries become records with these names
    for key and value. ``on_bytes`` is called with the number of bytes read, for a progress bar. Blank lines are
    skipped. Raises ``PipelineError``.
    """
    if not path.is_file():
        raise PipelineError("no such file", where=str(path))
    match streams.kind(path):
        case ".jsonl":
            yield from read_json_lines(path, on_bytes, after)
        case ".json":
            with streams.opened(path, on_bytes) as stream:
                yield from _behind(after, _json(stream, path, mapping))
        case ".tsv":
            with streams.opened(path, on_bytes) as stream:
                yield from _behind(after, _tsv(stream, path, columns, headerless))
        case ".parquet" if path.suffix == ".parquet":
            yield from _behind(after, _parquet(path, columns, on_bytes))
        case other:
            raise PipelineError(
                f"unknown kind of file {other!r}", where=str(path), fix=f"known: {', '.join(_SUFFIXES)}"
            )


def read_json_lines(path: Path, on_bytes: streams.OnBytes | None = None, after: int = 0) -> Iterator[Record]:
    """Yield the records of a file with one JSON object per line, whatever its name, skipping lines up to ``after``."""
    with streams.opened(path, on_bytes) as stream:
        yield from json_lines(stream, str(path), after)


def _behind(after: int, records: Iterator[Record]) -> Iterator[Record]:
    return (record for record in records if record.number > after)


def text_field(record: Record, name: str) -> str:
    """Return the stripped string in column ``name``; it may be empty. Raises ``PipelineError`` if it is missing."""
    if name not in record.fields:
        found = ", ".join(record.fields) or "none"
        raise PipelineError(f"column {name!r} is missing", where=record.place, fix=f"columns found: {found}")
    value = record.fields[name]
    if not isinstance(value, str):
        raise PipelineError(f"{name!r} must be a string, got {_shown(value)}", where=record.place)
    return value.strip()


def identifier(record: Record, names: Sequence[str]) -> tuple[str, str] | None:
    """Return the first of the columns ``names`` with an id: its name and the id as a string; else None."""
    for name in names:
        value = record.fields.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise PipelineError(f"{name!r} must be a string or a whole number, got {_shown(value)}", where=record.place)
        return name, str(value).strip()
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _lines(stream: IO[bytes], where: str, after: int = 0) -> Iterator[tuple[str, int, str]]:
    """Yield non-blank lines: place, number, text. Only a line feed ends a line; U+0085 and the like are text."""
    for number, raw in enumerate(itertools.islice(stream, after, None), after + 1):
        place = f"{where}, line {number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise PipelineError(f"not UTF-8 at byte {error.start + 1} of the line", where=place) from None
        if line.strip():
            yield place, number, line


def json_lines(stream: IO[bytes], where: str, after: int = 0) -> Iterator[Record]:
    """Yield the records of an open stream with one JSON object per line; ``where`` names it in errors."""
    for place, number, line in _lines(stream, where, after):
        try:
            fields = parse_json(line)
        except json.JSONDecodeError as error:
            if line.lstrip().startswith("["):
                fix = "one JSON object a line is needed; name a JSON array .json"
            else:
                fix = "mend or remove the line"
            raise PipelineError(
                f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}", where=place, fix=fix
            ) from None
        if not isinstance(fields, dict):
            raise PipelineError(
                f"a JSON object is needed, got {_shown(fields)}", where=place, fix="name a JSON array .json"
            )
        record = Record(place, number, fields)
        yield _writable(record) if _SURROGATE.search(line) else record


def _writable(record: Record) -> Record:
    """Return the same record. A lone surrogate's escape is valid JSON, but no file can hold the text."""
    try:
        json.dumps(record.fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise PipelineError(
            f"half a surrogate pair (\\u{ord(error.object[error.start]):04x}), which is no character",
            where=record.place,
            fix="mend or remove it",
        ) from None
    return record


def _json(stream: IO[bytes], path: Path, mapping: tuple[str, str] | None) -> Iterator[Record]:
    items = read_items(stream, str(path))
    for number, (key, fields) in enumerate(items, 1):
        place = f"{path}, item {number}"
        if key is not None:
            if mapping is None:
                # Either one object, or a file of lines: only what follows the object tells.
                for _ in items:
                    pass
                raise PipelineError("a JSON array of objects is needed", where=str(path))
            yield _writable(Record(place, number, dict(zip(mapping, (key, fields), strict=True))))
        elif isinstance(fields, dict):
            yield _writable(Record(place, number, fields))
        else:
            raise PipelineError(f"a JSON object is needed, got {_shown(fields)}", where=place)


def _tsv(stream: IO[bytes], path: Path, columns: Sequence[str], headerless: Sequence[str]) -> Iterator[Record]:
    names: Sequence[str] = ()
    for place, number, line in _lines(stream, str(path)):
        values = [_unquoted(value) for value in line.split("\t")]
        if not names:
            if any(value in columns for value in values):
                if len(set(values)) != len(values):
                    raise PipelineError("the header names a column twice", where=place)
                names = values
                continue
            if not headerless:
                raise PipelineError("no header", where=place, fix=f"first line: names among {', '.join(columns)}")
            names = headerless
        if len(values) != len(names):
            raise PipelineError(
                f"{len(values)} tab-separated fields, not {len(names)}", where=place, fix=f"needed: {', '.join(names)}"
            )
        yield Record(place, number, dict(zip(names, values, strict=True)), textual=True)


def _unquoted(value: str) -> str:
    """Undo CSV quoting (used by DPR's and KILT's files) if the whole field is well quoted.

    A csv reader would take a stray quote at a field's start as an opening one and swallow the lines after it.
    """
    inner = value[1:-1]
    if len(value) >= 2 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return value


def _parquet(path: Path, columns: Sequence[str], on_bytes: streams.OnBytes | None) -> Iterator[Record]:
    with contextlib.ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(pq.ParquetFile(path, memory_map=True))
            wanted = [name for name in file.schema_arrow.names if name in columns]
            bytes_a_row = path.stat().st_size / max(1, file.metadata.num_rows)
            batches = file.iter_batches(batch_size=10_000, columns=wanted)
        number = 0
        while True:
            with reading(path):  # not around the yields: the consumer's errors are not the file's
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            if batch is None:
                break
            if on_bytes is not None:
                on_bytes(round(batch.num_rows * bytes_a_row))
            for fields in rows:
                number += 1
                yield Record(f"{path}, row {number}", number, fields)
