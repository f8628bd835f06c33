"""Records of a user's own file (JSONL, JSON array, TSV, Parquet), each with the place it stands at.

`corpus` and `questions` read the same kinds of file; the kind follows from the file's name. JSONL, TSV
and Parquet are streamed. Every fault names the file and the line (of a JSON array the item, of a
Parquet file the row), counted from 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.contract.errors import PipelineError

KINDS = (".jsonl", ".json", ".tsv", ".parquet")


@dataclass(frozen=True)
class Record:
    """One record: ``place`` is "file, line 3" for error messages, ``number`` that line, item or row,
    ``fields`` the values by name, ``textual`` whether the file knows no other values than strings (TSV)."""

    place: str
    number: int
    fields: dict[str, Any]
    textual: bool = False


def read_records(path: Path, columns: Sequence[str], headerless: Sequence[str] = ()) -> Iterator[Record]:
    """Yield the records of ``path``.

    ``columns``: every name that the caller understands. Only these are read from Parquet, and a TSV
    file's first line is its header when one of its fields is such a name. ``headerless``: what the
    fields of a TSV file without a header are; empty where a header is required. Blank lines are passed over.
    """
    if not path.is_file():
        raise PipelineError("no such file", where=str(path))
    match path.suffix:
        case ".jsonl":
            yield from _jsonl(path)
        case ".json":
            yield from _json_array(path)
        case ".tsv":
            yield from _tsv(path, columns, headerless)
        case ".parquet":
            yield from _parquet(path, columns)
        case other:
            raise PipelineError(f"unknown kind of file {other!r}", where=str(path), fix=f"known: {', '.join(KINDS)}")


def text_field(record: Record, name: str) -> str:
    """The string in column ``name``, stripped; it may be empty, but it must be there."""
    if name not in record.fields:
        found = ", ".join(record.fields) or "none"
        raise PipelineError(f"column {name!r} is missing", where=record.place, fix=f"columns found: {found}")
    value = record.fields[name]
    if not isinstance(value, str):
        raise PipelineError(f"{name!r} must be a string, got {_shown(value)}", where=record.place)
    return value.strip()


def identifier(record: Record, names: Sequence[str]) -> tuple[str, str] | None:
    """The first of the columns ``names`` that holds an id: its name and the id as a string."""
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


def _lines(path: Path) -> Iterator[tuple[str, int, str]]:
    """Lines that are not blank: place, number, text. Only a line feed ends one; U+0085 and the like are text."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            place = f"{path}, line {number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise PipelineError(f"not UTF-8 at byte {error.start + 1} of the line", where=place) from None
            if line.strip():
                yield place, number, line


def _jsonl(path: Path) -> Iterator[Record]:
    for place, number, line in _lines(path):
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            if line.lstrip().startswith("["):
                fix = "one JSON object a line is needed; name a JSON array .json"
            else:
                fix = "mend or remove the line"
            raise PipelineError(f"not JSON: {error.msg} at column {error.colno}", where=place, fix=fix) from None
        if not isinstance(fields, dict):
            raise PipelineError(
                f"a JSON object is needed, got {_shown(fields)}", where=place, fix="name a JSON array .json"
            )
        yield Record(place, number, fields)


def _json_array(path: Path) -> Iterator[Record]:
    try:
        items = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise PipelineError(f"not UTF-8 at byte {error.start + 1}", where=str(path)) from None
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}"
        fix = "name a file with one JSON object a line .jsonl" if error.msg == "Extra data" else None
        raise PipelineError(f"not JSON: {error.msg} at column {error.colno}", where=place, fix=fix) from None
    if not isinstance(items, list):
        raise PipelineError("a JSON array of objects is needed", where=str(path))
    for number, fields in enumerate(items, 1):
        place = f"{path}, item {number}"
        if not isinstance(fields, dict):
            raise PipelineError(f"a JSON object is needed, got {_shown(fields)}", where=place)
        yield Record(place, number, fields)


def _tsv(path: Path, columns: Sequence[str], headerless: Sequence[str]) -> Iterator[Record]:
    names: Sequence[str] = ()
    for place, number, line in _lines(path):
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
    """Undo CSV quoting (DPR's and KILT's files have it) where the whole field is well quoted; else leave it.

    A csv reader would take a stray quote at a field's start as an opening one and swallow the lines after it.
    """
    inner = value[1:-1]
    if len(value) >= 2 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return value


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            wanted = [name for name in file.schema_arrow.names if name in columns]
            number = 0
            for batch in file.iter_batches(batch_size=10_000, columns=wanted):
                for fields in batch.to_pylist():
                    number += 1
                    yield Record(f"{path}, row {number}", number, fields)
    except pa.ArrowInvalid as error:
        raise PipelineError(f"not a Parquet file: {' '.join(str(error).split())}", where=str(path)) from None
