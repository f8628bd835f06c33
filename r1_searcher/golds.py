"""Parse gold answers, in every form that public files use.

A string; a number (1999.0 is "1999", because pandas turns columns with gaps into floats); a list of these; an object
with aliases (TriviaQA), a text list (SQuAD), a target (verl) or an answer (KILT); a list of objects with spans (IRCoT).
A list or such an object may be written as a string, in the syntax of JSON, Python or numpy: tables saved as CSV have
them so.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from r1_searcher.texts import parse_json

_LITERAL = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""  # a Python string
_LITERALS = re.compile(_LITERAL, re.DOTALL)
_LIST = re.compile(r"""\[\s*(?:\]$|["'])""")  # the beginning of a list that is written as a string
_OBJECT = re.compile(r"""\{\s*["']\w+["']\s*:""")  # the same of an object
_GROUP = re.compile(r"""[({]\s*["']""")  # the same of a Python tuple or set
_ARRAY = re.compile(r"array\((\[[^\[\]]*\])(?:,\s*dtype=[^()]*)?\)", re.DOTALL)  # numpy's, as repr writes it
_NUMPY = re.compile(rf"\[\s*{_LITERAL}(?:\s+{_LITERAL})+\s*\]", re.DOTALL)  # the same, as str writes it: no commas
_LONGEST_LITERAL = 100_000  # characters; a list of answers is shorter
# Keys of an object that hold the answer, and keys that hold aliases.
_VALUES = ("value", "text", "target", "answer", "spans")
_ALIASES = ("aliases",)


class NotGold(ValueError):
    """A value that is no gold answer of a known form; the message follows the column's name."""


def parse_golds(value: Any, *, textual: bool = False) -> list[str]:
    """Return the gold answers, in order, stripped, without nulls and empty ones.

    ``textual``: the value is from a file that has only strings, so any text in brackets is a list. Raises ``NotGold``.
    """
    return [answer for answer in _parsed(value, textual) if answer]


def number_text(value: float) -> str:
    """Return a number as an answer: the digits alone if it is whole."""
    return str(int(value)) if math.isfinite(value) and float(value).is_integer() else str(value)


def _parsed(value: Any, textual: bool) -> list[str]:
    value = _plain(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, str):
        return _text(value, textual)
    if isinstance(value, Mapping):
        return _object(value, textual)
    if isinstance(value, list | tuple):
        return [answer for one in value for answer in _item(one, textual)]
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise _other(value)
    return [number_text(value)]


def _item(value: Any, textual: bool) -> list[str]:
    """Parse one item of a list, which may not be a list itself."""
    value = _plain(value)
    if isinstance(value, list | tuple):
        raise _other(value)
    return [value.strip()] if isinstance(value, str) else _parsed(value, textual)


def _plain(value: Any) -> Any:
    """Return numpy's arrays and numbers, which pandas and verl hand on, as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _text(text: str, textual: bool) -> list[str]:
    text = text.strip()
    if text.startswith("array(["):
        if (inner := _ARRAY.fullmatch(text)) is None:
            raise NotGold(f"looks like a list but is not one: {text:.40}")
        text = inner[1]
    if _OBJECT.match(text):
        value = _written(text)
        return _object(value, textual) if isinstance(value, Mapping) and _main(value) else [text]
    if _GROUP.match(text):
        value, strings = _written(text), _LITERALS.findall(text)
        whole = isinstance(value, tuple | set) and len(value) == len(strings)
        return [ast.literal_eval(one).strip() for one in strings] if whole else [text]
    if not (_LIST.match(text) or (textual and text.startswith("["))):
        return [text]
    listed = _written(text)
    if not isinstance(listed, list):
        raise NotGold(f"looks like a list but is not one: {text:.40}")
    return [answer for one in listed for answer in _item(one, textual)]


def _written(text: str) -> Any:
    """Return the list or object that a text is, None if it is none."""
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        pass
    if len(text) > _LONGEST_LITERAL:
        return None
    if _NUMPY.fullmatch(text):  # Python would join its strings
        text = f"[{', '.join(_LITERALS.findall(text))}]"
    try:
        value = ast.literal_eval(_ARRAY.sub(r"\1", text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(value, list) and not any(isinstance(one, Mapping) for one in value):
        # Fewer strings than are written: some lack a comma, and Python joined them.
        return value if sum(isinstance(one, str) for one in value) == len(_LITERALS.findall(text)) else None
    return value


def _main(value: Mapping[str, Any]) -> str | None:
    """Return the key of an object that holds the answer."""
    keys = {str(key).lower(): key for key in value}
    return next((keys[key] for key in _VALUES if key in keys), None)


def _object(value: Mapping[str, Any], textual: bool) -> list[str]:
    main, keys = _main(value), {str(key).lower(): key for key in value}
    if main is None and "provenance" in keys:  # in KILT's output: a page without an answer
        return []
    if main is None:
        raise _other(value)
    found = _parsed(value[main], textual)
    for key in _ALIASES:
        if key in keys:
            found += _parsed(value[keys[key]], textual)
    return found


def _other(value: Any) -> NotGold:
    return NotGold(f"must be a string or a list of strings, got {value!r:.40}")
