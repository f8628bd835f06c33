"""Stream the items of one large JSON array, or the entries of one large object.

Only the current item and a chunk of the file are in memory. The standard library parses each item.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from r1_searcher.errors import PipelineError
from r1_searcher.texts import DEEP, LONG_NUMBER

CHUNK = 1 << 20  # bytes
LARGEST_ITEM = 1 << 26  # characters; a longer unparsable item is an error, not an incomplete item
_SPACE = " \t\n\r"
_OBJECTS = re.compile(r"\[\s*(\S)")
_AFTER_NUMBER = tuple(_SPACE + ",]}")


def read_items(stream: IO[bytes], where: str) -> Iterator[tuple[str | None, Any]]:
    """Yield (None, item) of an array, (key, value) of an object; (None, item) of an array of objects in an object.

    Raises ``PipelineError`` with ``where`` and the line for invalid JSON, for bytes that are not UTF-8, and for a
    second array of objects in an object, which may be another split.
    """
    text = _Text(stream, where)
    first = text.next_character()
    if first not in ("[", "{"):
        raise text.fault("Expecting a JSON array")
    text.skip()
    closing = "]" if first == "[" else "}"
    if text.next_character() == closing:
        text.skip()
    else:
        more, listed = True, None
        while more:
            key = _key(text) if first == "{" else None
            if key is not None and text.opens_objects():
                if listed is not None:
                    raise PipelineError(
                        f"several lists of records in one object: {listed!r} and {key!r}",
                        where=where,
                        fix="make a file of each that is meant",
                    )
                listed = key
                yield from _array(text)
            else:
                yield key, text.value()
            found = text.next_character()
            if found not in (",", closing):
                raise text.fault("Expecting ',' delimiter")
            text.skip()
            more = found == ","
    if text.next_character():
        raise text.fault("Extra data")


def _array(text: _Text) -> Iterator[tuple[None, Any]]:
    """Yield the items of a non-empty array."""
    text.skip()
    while True:
        yield None, text.value()
        found = text.next_character()
        if found not in (",", "]"):
            raise text.fault("Expecting ',' delimiter")
        text.skip()
        if found == "]":
            return


def _key(text: _Text) -> str:
    if text.next_character() != '"':
        raise text.fault("Expecting property name enclosed in double quotes")
    key = text.value()
    if text.next_character() != ":":
        raise text.fault("Expecting ':' delimiter")
    text.skip()
    assert isinstance(key, str)
    return key


class _Text:
    """Decoded text from a position in the stream on."""

    def __init__(self, stream: IO[bytes], where: str) -> None:
        self._stream, self._where = stream, where
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._parse = json.JSONDecoder().raw_decode
        self._buffer, self._place = "", 0
        self._lines = 0  # line feeds before the buffer
        self._column = 0  # characters before the buffer in its first line
        self._bytes = 0
        self._ended = False

    def next_character(self) -> str:
        """Return the next character that is not white space, without consuming it; empty at the end."""
        while True:
            buffer, place = self._buffer, self._place
            while place < len(buffer) and buffer[place] in _SPACE:
                place += 1
            self._place = place
            if place < len(buffer):
                return buffer[place]
            if not self._more():
                return ""

    def opens_objects(self) -> bool:
        """Return whether an array of objects comes next; consumes nothing."""
        if self.next_character() != "[":
            return False
        while (found := _OBJECTS.match(self._buffer, self._place)) is None and self._more():
            pass
        return found is not None and found.group(1) == "{"

    def skip(self) -> None:
        """Consume one character."""
        self._place += 1

    def value(self) -> Any:
        """Consume one JSON value."""
        self.next_character()
        while True:
            try:
                value, end = self._parse(self._buffer, self._place)
            except json.JSONDecodeError as error:
                # It may only be cut off at the end of what was read so far.
                if len(self._buffer) - self._place < LARGEST_ITEM and self._more():
                    continue
                self._place = error.pos
                raise self.fault(error.msg.removesuffix(" at")) from None
            except RecursionError:
                raise self.fault(DEEP) from None
            except ValueError:
                raise self.fault(LONG_NUMBER) from None
            # A number may continue: of "0." the parser takes the 0.
            number = isinstance(value, int | float) and self._buffer[end : end + 1] not in _AFTER_NUMBER
            if number and self._more():
                continue
            self._place = end
            return value

    def fault(self, reason: str) -> PipelineError:
        """Return an error at the current position."""
        before = self._buffer[: self._place]
        line_start = before.rfind("\n")
        column = self._place - line_start if line_start >= 0 else self._column + self._place + 1
        line = self._lines + before.count("\n") + 1
        fix = "name a file with one JSON object per line .jsonl" if reason == "Extra data" else None
        return PipelineError(f"not JSON: {reason} at column {column}", where=f"{self._where}, line {line}", fix=fix)

    def _more(self) -> bool:
        """Read as much again as is in the buffer, so that a long item is not parsed too often."""
        if self._ended:
            return False
        gone = self._buffer[: self._place]
        self._lines += gone.count("\n")
        line_start = gone.rfind("\n")
        self._column = len(gone) - line_start - 1 if line_start >= 0 else self._column + len(gone)
        self._buffer, self._place = self._buffer[self._place :], 0
        data = self._stream.read(max(CHUNK, len(self._buffer)))
        pending = len(self._decoder.getstate()[0])
        self._ended = not data
        try:
            self._buffer += self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            place = self._bytes - pending + error.start + 1
            raise PipelineError(f"not UTF-8 at byte {place}", where=self._where) from None
        self._bytes += len(data)
        return True
