"""Look up a record's columns by name or dotted path, and map the user's names to ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.texts import parse_json

ColumnPath = str | int  # a column's name, a dotted path into one, or, without a header, its number from 1
ColumnMapping = Mapping[str, ColumnPath]  # our name → the file's

ABSENT = object()


def top_level(path: ColumnPath) -> str:
    """Return the column in which a path starts."""
    return str(path).split(".", 1)[0]


def look(fields: Mapping[str, Any], path: str) -> Any:
    """Return the value at ``path`` ("reward_model.ground_truth.target", "prompt.0.content"); ``ABSENT`` if there is
    none.

    A column whose own name has dots takes precedence. Text that holds a JSON object or list is parsed.
    """
    if path in fields:
        return fields[path]
    value: Any = fields
    for part in path.split("."):
        if isinstance(value, str) and value[:1] in ("{", "["):
            try:
                value = parse_json(value)
            except json.JSONDecodeError:
                return ABSENT
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return ABSENT
    return value


def as_in_file(found: Mapping[str, str], columns: ColumnMapping) -> dict[str, str]:
    """Return ``found`` (our names → the columns they were read from) with the file's own names of mapped columns."""
    return {name: str(columns.get(name, column)) for name, column in found.items()}


def positions(columns: ColumnMapping, *, where: str) -> Sequence[str] | None:
    """Return a headerless file's column names if ``columns`` gives numbers (unmapped ones as "-2"); None for names.

    Raises ``PipelineError`` if it mixes both, and for a number below 1 or given twice.
    """
    numbers = {name: path for name, path in columns.items() if isinstance(path, int)}
    if not numbers:
        return None
    if len(numbers) < len(columns):
        raise PipelineError("column names and column numbers are mixed", where=where, fix="use only one kind")
    if len(set(numbers.values())) < len(numbers) or min(numbers.values()) < 1:
        raise PipelineError("column numbers count from 1, each once", where=where)
    by_number = {number: name for name, number in numbers.items()}
    return [by_number.get(number, f"-{number}") for number in range(1, max(by_number) + 1)]


def renamed(
    fields: Mapping[str, Any], columns: ColumnMapping, *, place: str, where: str, found: Sequence[str]
) -> dict[str, Any]:
    """Return ``fields`` under our names per ``columns``; what the row lacks is None.

    Raises ``PipelineError`` if ``columns`` names a column that is not among the file's (``found``).
    """
    values = dict(fields)
    for name, path in columns.items():
        if isinstance(path, int):
            continue  # named when the file was opened
        value = look(fields, path)
        if value is ABSENT and top_level(path) not in found and path not in found:
            raise PipelineError(
                f"{where}.{name} names {path!r}, which does not exist",
                where=place,
                fix=f"columns found: {', '.join(found) or 'none'}",
            )
        values[name] = None if value is ABSENT else value
    return values
