"""Parse a record's gold answers, in every form that public files use.

A string; a number (1999.0 is "1999", because pandas turns columns with gaps into floats); a list of these; such a list
written as a string, in JSON or Python syntax; an object with aliases (TriviaQA), a text list (SQuAD), a target (verl)
or an answer (KILT); a list of objects with spans (IRCoT).
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.records import Record
from r1_searcher.texts import parse_json

_LIST = re.compile(r"""\[\s*(?:\]$|["'])""")  # the beginning of a list that is written as a string
_LONGEST_LITERAL = 100_000  # characters; a list of answers is shorter
# Keys of an object that hold the answer, and keys that hold aliases.
_VALUES = ("value", "text", "target", "answer", "spans")
_ALIASES = ("aliases",)


def golds(record: Record, name: str) -> list[str]:
    """Return the gold answers in column ``name``, in order, without duplicates, nulls and empty ones.

    Raises ``PipelineError`` with the place for a value of another form.
    """
    found = _golds(record, name, record.fields.get(name))
    return list(dict.fromkeys(answer for answer in found if answer))


def _golds(record: Record, name: str, value: Any) -> list[str]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, str):
        return _text(record, name, value)
    if isinstance(value, Mapping):
        return _object(record, name, value)
    if isinstance(value, list | tuple):
        return [answer for one in value for answer in _item(record, name, one)]
    return [_number(record, name, value)]


def _item(record: Record, name: str, value: Any) -> list[str]:
    """Parse one item of a list, which may not be a list itself."""
    if isinstance(value, list | tuple):
        raise _other(record, name, value)
    return [value.strip()] if isinstance(value, str) else _golds(record, name, value)


def _text(record: Record, name: str, text: str) -> list[str]:
    text = text.strip()
    if not (_LIST.match(text) or (record.textual and text.startswith("["))):
        return [text]
    try:
        listed = parse_json(text)
    except json.JSONDecodeError:
        listed = _python(text)
    if not isinstance(listed, list):
        raise PipelineError(f"{name!r} looks like a list but is not one: {text:.40}", where=record.place)
    return [answer for one in listed for answer in _item(record, name, one)]


def _python(text: str) -> Any:
    """Parse a Python list of literals."""
    if len(text) > _LONGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _object(record: Record, name: str, value: Mapping[str, Any]) -> list[str]:
    keys = {key.lower(): key for key in value}
    main = next((keys[key] for key in _VALUES if key in keys), None)
    if main is None and "provenance" in keys:  # in KILT's output: a page without an answer
        return []
    if main is None:
        raise _other(record, name, value)
    found = _golds(record, name, value[main])
    for key in _ALIASES:
        if key in keys:
            found += _golds(record, name, value[keys[key]])
    return found


def _number(record: Record, name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise _other(record, name, value)
    return str(int(value)) if float(value).is_integer() else str(value)


def _other(record: Record, name: str, value: Any) -> PipelineError:
    return PipelineError(f"{name!r} must be a string or a list of strings, got {value!r:.40}", where=record.place)
