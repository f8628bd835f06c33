"""Read records of the user's files (JSONL, JSON, TSV, CSV, Parquet), each with its place.

`corpus` and `questions` read the same kinds of files; the kind follows from the file's name, else from its content
(``streams``). All are streamed, and all but Parquet may be compressed. Every fault names the file and the line (of a
JSON array the item, of a Parquet file the row), counted from 1.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from r1_searcher.errors import PipelineError
from r1_searcher.files import delimited, streams
from r1_searcher.files.artefacts import reading
from r1_searcher.files.delimited import Headerless, OnFault
from r1_searcher.files.json_stream import read_items
from r1_searcher.texts import parse_json

_LOOKED_AT = 1 << 20  # bytes of a line that suffice to check the file's name
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # a JSON escape of a surrogate


@dataclass(frozen=True)
class Record:
    """One record: ``place`` is "file, line 3" for error messages, ``number`` that line, item or row, ``fields`` the
    values by name, ``textual`` whether the file has only strings (TSV, CSV). ``columns``: all of the file's, if
    ``fields`` holds only the requested ones (Parquet). ``mapped``: our names that the user's mapping gives."""

    place: str
    number: int
    fields: dict[str, Any]
    textual: bool = False
    columns: tuple[str, ...] | None = None
    mapped: frozenset[str] = frozenset()

    @property
    def found(self) -> tuple[str, ...]:
        """Return the file's column names."""
        return tuple(self.fields) if self.columns is None else self.columns


def read_records(
    path: Path,
    columns: Sequence[str],
    headerless: Sequence[str] | Headerless = (),
    *,
    mapping: tuple[str, str] | None = None,
    on_bytes: streams.OnBytes | None = None,
    on_fault: OnFault | None = None,
    after: int = 0,
) -> Iterator[Record]:
    """Yield the records of ``path``, or only those after line (item, row) ``after``.

    ``columns``: every name that the caller understands. Only these are read from Parquet, and a TSV or CSV file's first
    line is its header if one of its fields is such a name. ``headerless``: the field names of such a file without a
    header (or a function of its first rows); empty if a header is required. ``mapping``: a .json file may also be one
    object, each entry a record with these names for key and value.

    ``on_bytes`` is called with the number of bytes read, for a progress bar. ``on_fault`` is called with each broken
    row, and reading goes on; without it such a row raises. Blank lines are skipped.
    """
    if not path.is_file():
        raise PipelineError("no such file", where=str(path))
    match _kind(path):
        case ".jsonl":
            yield from read_json_lines(path, on_bytes, after, on_fault)
        case ".json":
            with streams.opened(path, on_bytes) as stream:
                yield from _after(after, _json(stream, path, mapping, on_fault))
        case ".tsv" | ".csv" as kind:
            where = str(path)
            with streams.opened(path, on_bytes) as stream:
                lines = _lines(stream, where, on_fault=on_fault) if kind == ".tsv" else iter(())
                rows = delimited.tab_separated(lines) if kind == ".tsv" else delimited.comma_separated(stream, where)
                for place, number, fields in delimited.named_rows(rows, columns, headerless, on_fault):
                    if number > after:
                        yield Record(place, number, dict(fields), textual=True)
        case ".parquet":
            yield from _after(after, _parquet(path, columns, on_bytes))
        case other:
            known = ", ".join(streams.KINDS)
            raise PipelineError(f"unknown kind of file {other!r}", where=str(path), fix=f"known: {known}")


def _kind(path: Path) -> str:
    """Return ``content_kind``, but correct a wrong name: JSON lines named .json, an array named .jsonl, a .csv with
    tabs; refuse compressed Parquet."""
    found = streams.content_kind(path)
    if found == ".parquet" and path.suffix.lower() in streams.COMPRESSIONS:
        raise PipelineError("a compressed Parquet file", where=str(path), fix="unpack it")
    if found in (".parquet", ".tsv"):
        return found
    with streams.opened(path) as stream:
        first, second = (stream.readline(_LOOKED_AT).strip(b"\xef\xbb\xbf \t\r\n") for _ in range(2))
    match found:
        case ".csv" if b"," not in first.split(b"\t")[0] and b"\t" in first:
            return ".tsv"
        case ".jsonl" if first.startswith(b"["):
            return ".json"
        case ".json" if first.startswith(b"{") and first.endswith(b"}") and second.startswith(b"{"):
            return ".jsonl"
    return found


def read_json_lines(
    path: Path, on_bytes: streams.OnBytes | None = None, after: int = 0, on_fault: OnFault | None = None
) -> Iterator[Record]:
    """Yield the records of a file with one JSON object per line, whatever its name; skips lines up to ``after``
    unparsed."""
    with streams.opened(path, on_bytes) as stream:
        yield from json_lines(stream, str(path), after, on_fault)


def _after(after: int, records: Iterator[Record]) -> Iterator[Record]:
    return (record for record in records if record.number > after)


def text_field(record: Record, name: str) -> str:
    """Return the stripped string in column ``name``; it may be empty. Raises ``PipelineError`` if it is missing."""
    if name not in record.fields:
        found = ", ".join(record.found) or "none"
        raise PipelineError(f"column {name!r} is missing", where=record.place, fix=f"columns found: {found}")
    value = record.fields[name]
    if not isinstance(value, str):
        raise PipelineError(f"{name!r} must be a string, got {_shown(value)}", where=record.place)
    return value.strip()


def identifier(record: Record, names: Sequence[str]) -> tuple[str, str] | None:
    """Return the first of the columns ``names`` with an id: its name and the id as a string; else None.

    Whole floats are whole numbers and NaN is no id, because pandas turns columns with gaps into floats.
    """
    for name in names[:1] if names[0] in record.mapped else names:
        value = record.fields.get(name)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if isinstance(value, str) and not value.strip():
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise PipelineError(f"{name!r} must be a string or a whole number, got {_shown(value)}", where=record.place)
        return name, str(value).strip()
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _lines(
    stream: IO[bytes], where: str, after: int = 0, on_fault: OnFault | None = None
) -> Iterator[tuple[str, int, str]]:
    """Yield non-blank lines: place, number, text. Only a line feed ends one; U+0085 and the like are text."""
    for number, raw in enumerate(itertools.islice(stream, after, None), after + 1):
        place = f"{where}, line {number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            fault = PipelineError(f"not UTF-8 at byte {error.start + 1} of the line", where=place)
            _report(fault, number, on_fault)
            continue
        if line.strip():
            yield place, number, line


def _report(fault: PipelineError, number: int, on_fault: OnFault | None) -> None:
    if on_fault is None:
        raise fault from None
    on_fault(fault, number)


def json_lines(stream: IO[bytes], where: str, after: int = 0, on_fault: OnFault | None = None) -> Iterator[Record]:
    """Yield the records of an open stream with one JSON object per line; ``where`` names it in errors."""
    for place, number, line in _lines(stream, where, after, on_fault):
        try:
            yield _json_line(place, number, line)
        except PipelineError as fault:
            _report(fault, number, on_fault)


def _json_line(place: str, number: int, line: str) -> Record:
    try:
        fields = parse_json(line)
    except json.JSONDecodeError as error:
        if line.lstrip().startswith("["):
            fix = "one JSON object per line is needed; name a JSON array .json"
        else:
            fix = "fix or remove the line"
        raise PipelineError(
            f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}", where=place, fix=fix
        ) from None
    if not isinstance(fields, dict):
        raise PipelineError(
            f"a JSON object is needed, got {_shown(fields)}", where=place, fix="name a JSON array .json"
        )
    record = Record(place, number, fields)
    return _writable(record) if _SURROGATE.search(line) else record


def _writable(record: Record) -> Record:
    """Return the same record. A lone surrogate's escape is valid JSON, but no file can hold the text."""
    try:
        json.dumps(record.fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise PipelineError(
            f"half a surrogate pair (\\u{ord(error.object[error.start]):04x}), which is not a character",
            where=record.place,
            fix="fix or remove it",
        ) from None
    return record


def _json(stream: IO[bytes], path: Path, mapping: tuple[str, str] | None, on_fault: OnFault | None) -> Iterator[Record]:
    items = read_items(stream, str(path))
    others: dict[str, Any] = {}  # entries of an object that may accompany its list of records
    number = 0
    for number, (key, value) in enumerate(items, 1):
        place = f"{path}, item {number}"
        fields = dict(zip(mapping, (key, value), strict=True)) if key is not None and mapping else value
        if key is not None and mapping is None:
            others[key] = len(value) if isinstance(value, list) else None
            continue
        try:
            if not isinstance(fields, dict):
                raise PipelineError(f"a JSON object is needed, got {_shown(fields)}", where=place)
            yield _writable(Record(place, number, fields))
        except PipelineError as fault:
            _report(fault, number, on_fault)
    if others and len(others) == number:
        lengths = set(others.values())
        raise PipelineError(
            "one object of columns, not a list of records"
            if len(lengths) == 1 and None not in lengths
            else "a JSON array of objects is needed",
            where=str(path),
            fix=f"found one object with {', '.join(list(others)[:5])}; pandas writes records by "
            "to_json(orient='records', lines=True)",
        )


def _text_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of strings for one of bytes, or of lists of bytes; else None."""
    if pa.types.is_list(kind):
        inner = _text_type(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_large_binary(kind):
        return pa.large_string()
    return pa.string() if pa.types.is_binary(kind) else None


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with its columns of bytes, as older writers of Parquet mark text, as strings."""
    for place, column in enumerate(batch.schema):
        wanted = _text_type(column.type)
        if wanted is not None:
            with contextlib.suppress(pa.ArrowInvalid):  # no UTF-8: the row's fault, whose value says so
                batch = batch.set_column(place, column.name, batch.column(place).cast(wanted))
    return batch


def _parquet(path: Path, columns: Sequence[str], on_bytes: streams.OnBytes | None) -> Iterator[Record]:
    with contextlib.ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(pq.ParquetFile(path, memory_map=True))
            found = tuple(file.schema_arrow.names)
            wanted = [name for name in found if name in columns]
            bytes_a_row = path.stat().st_size / max(1, file.metadata.num_rows)
            batches = file.iter_batches(batch_size=10_000, columns=wanted)
        number = 0
        while True:
            with reading(path):  # not around the yields: the consumer's errors are not the file's
                batch = next(batches, None)
                rows = [] if batch is None else _as_text(batch).to_pylist()
            if batch is None:
                break
            if on_bytes is not None:
                on_bytes(round(batch.num_rows * bytes_a_row))
            for fields in rows:
                number += 1
                yield Record(f"{path}, row {number}", number, fields, columns=found)
