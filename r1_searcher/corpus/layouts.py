"""How the passages of a file are laid out: recognised by its columns, or as the user's mapping says.

| layout | columns |
|---|---|
| title and text | title (may be missing), text, or in its place passage, segment, body, paragraph_text, content |
| contents | Search-R1's, FlashRAG's and Pyserini's: title, line feed, text in one column |
| KILT pages | wikipedia_title, and text as a list of paragraphs |

The id is passage_id, id, _id (BEIR), pid (MS MARCO), docid or doc_id. TSV and CSV without a header: id and text; id,
and title and text in either order if one is clearly the shorter; id, address, title, text (MS MARCO's documents).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.columns import ColumnMapping, positions, renamed, top_level
from r1_searcher.files.delimited import looks_like_header
from r1_searcher.files.records import Record

# A passage's id before its document's, which several passages share (MS MARCO v2 has pid and docid).
PASSAGE_ID_NAMES = ("passage_id", "id", "_id", "pid", "docid", "doc_id")
PASSAGE_TITLE_NAMES = ("title", "wikipedia_title")
_TEXT_NAMES = ("text", "passage", "segment", "body", "paragraph_text", "content")
_CONTENTS = "contents"
PASSAGE_COLUMNS = (*PASSAGE_ID_NAMES, *PASSAGE_TITLE_NAMES, *_TEXT_NAMES, _CONTENTS, "wikipedia_id")
_PARAMETER = "corpus.columns"
KILT_PAGES = "KILT pages"

_CLEARLY = 2.0  # how many times longer the text is than the title, on average
_NEARLY_ALL = 0.9  # share of the rows in which it must be the longer one
# R1-Searcher's two passage files → the source that reads them.
_TITLED = {re.compile(r"Title: .*\bText:", re.DOTALL): "hotpotqa_abstracts", re.compile(r"\S.{0,200}?   \S"): "kilt"}
_MAPPING = f"say which is which: {_PARAMETER}: {{passage_id: 1, title: 2, text: 3}}, numbers of columns from 1"


@dataclass(frozen=True)
class PassageLayout:
    """Which columns hold what; ``title`` and ``id`` are None if the file has none. ``name`` is for the report."""

    name: str
    text: str
    title: str | None = None
    id: str | None = None

    @property
    def splits(self) -> bool:
        """Return whether the title is the first line of the text column."""
        return self.has_contents and self.title is None

    @property
    def has_contents(self) -> bool:
        """Return whether the text column may begin with the title."""
        return self.text == _CONTENTS

    @property
    def columns(self) -> dict[str, str]:
        """Return our names → the file's, for the report."""
        found = {"passage_id": self.id, "title": self.title, "text": self.text}
        return {name: column for name, column in found.items() if column is not None}


def known_columns(columns: ColumnMapping) -> tuple[str, ...]:
    """Return the names of the columns that are read."""
    paths = columns.values()
    return (*PASSAGE_COLUMNS, *map(top_level, paths), *map(str, paths))


def recognise(record: Record, columns: ColumnMapping) -> PassageLayout:
    """Return a file's layout from its first record. ``columns``: the user's mapping, whose names take precedence.

    Raises ``PipelineError`` that lists the file's columns, the accepted names and the mapping.
    """
    names = [*columns, *record.found]
    identity = next((name for name in PASSAGE_ID_NAMES if name in names), None)
    title = next((name for name in PASSAGE_TITLE_NAMES if name in names), None)
    text = next((name for name in _TEXT_NAMES if name in names), None)
    if text is None and _CONTENTS in names:
        if title is not None:
            return PassageLayout("title and contents", _CONTENTS, title, identity)
        return PassageLayout(f"{_CONTENTS}: title, line feed, text", _CONTENTS, None, identity)
    if text is None:
        raise PipelineError(
            f"no column for a passage's text ({', '.join((*_TEXT_NAMES, _CONTENTS))})",
            where=record.place,
            fix=f"columns found: {', '.join(record.found) or 'none'}; "
            f"name yours by {_PARAMETER}: {{text: NAME, title: NAME, passage_id: NAME}}",
        )
    if title == "wikipedia_title" and is_paragraphs(record.fields.get(text)):
        return PassageLayout(KILT_PAGES, text, title, "wikipedia_id" if "wikipedia_id" in names else identity)
    return PassageLayout("title and text" if title else "text without titles", text, title, identity)


def is_paragraphs(value: Any) -> bool:
    """Return whether a page's text is laid out as KILT has it, or as its hub copy: {"paragraph": […]}."""
    return isinstance(value, list) or (isinstance(value, dict) and isinstance(value.get("paragraph"), list))


def mapped(record: Record, columns: ColumnMapping) -> Record:
    """Return the record under our names, per the user's mapping."""
    if not columns:
        return record
    fields = renamed(record.fields, columns, place=record.place, where=_PARAMETER, found=record.found)
    return Record(record.place, record.number, fields, record.textual, record.columns, frozenset(columns))


def without_header(columns: ColumnMapping, where: str) -> Sequence[str] | HeaderlessPassages:
    """Return ``read_records``' ``headerless`` argument."""
    return positions(columns, where=_PARAMETER) or HeaderlessPassages(where)


@dataclass(frozen=True)
class HeaderlessPassages:
    """Return the column names of a file without a header from its first rows. Raises if they are ambiguous."""

    where: str

    def __call__(self, rows: Sequence[Sequence[str]]) -> Sequence[str]:
        """Return the columns' names."""
        number = len(rows[0])
        if looks_like_header(rows):
            raise PipelineError(
                f"the first line looks like a header of unknown names: {', '.join(rows[0])}",
                where=f"{self.where}, line 1",
                fix=f"known: {', '.join(dict.fromkeys(PASSAGE_COLUMNS))}; name yours by {_PARAMETER}",
            )
        rows = [row for row in rows if len(row) == number]
        ids = all(row[0] and len(row[0].split()) == 1 for row in rows)
        if number == 2 and ids:
            self._check_titles([row[1] for row in rows])
            return ("id", "text")
        if number == 3 and ids:
            longer = _longer(rows, 1, 2)
            if longer is not None:
                return ("id", "text", "title") if longer == 1 else ("id", "title", "text")
            raise PipelineError("no header, and title and text cannot be told apart", where=self.where, fix=_MAPPING)
        if number == 4 and ids and all("://" in row[1] for row in rows):
            return ("id", "url", "title", "text")
        raise PipelineError(f"no header, and {number} columns of unknown meaning", where=self.where, fix=_MAPPING)

    def _check_titles(self, texts: Sequence[str]) -> None:
        """Raise for R1-Searcher's passage files, whose texts begin with titles."""
        source = next((source for form, source in _TITLED.items() if all(map(form.match, texts))), None)
        if source is not None:
            raise PipelineError(
                "titles stand in front of the texts, as in the files of R1-Searcher",
                where=self.where,
                fix=f"corpus.source: {source}; or, if they are no titles, {_PARAMETER}: {{passage_id: 1, text: 2}}",
            )


def _longer(rows: Sequence[Sequence[str]], one: int, other: int) -> int | None:
    """Return which of two columns is clearly and nearly always the longer one."""
    for longer, shorter in ((one, other), (other, one)):
        if fmean(len(row[longer]) for row in rows) < _CLEARLY * fmean(len(row[shorter]) for row in rows):
            continue
        if fmean(len(row[longer]) > len(row[shorter]) for row in rows) >= _NEARLY_ALL:
            return longer
    return None


def split_contents(contents: str) -> tuple[str, str]:
    """Split ``contents`` into title (the first line without outer quotes) and text; no title without a line feed."""
    first, feed, rest = contents.partition("\n")
    if not feed:
        return "", contents.strip()
    title = first.strip()
    if len(title) >= 2 and title[0] == title[-1] == '"':
        title = title[1:-1].replace('""', '"').strip()
    return title, rest.strip()


def text_of(record: Record, name: str | None) -> str:
    """Return a column's text, stripped: "" for null, digits for a whole number. Raises ``PipelineError`` otherwise."""
    if name is None:
        return ""
    if name not in record.fields:
        found = ", ".join(record.found) or "none"
        raise PipelineError(f"column {name!r} is missing", where=record.place, fix=f"columns found: {found}")
    value = record.fields[name]
    if value is None:
        return ""
    if isinstance(value, float) and math.isnan(value):  # pandas' form of null
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str):
        raise PipelineError(f"{name!r} must be a string, got {value!r:.40}", where=record.place)
    return value.strip()
