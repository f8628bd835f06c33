"""Read questions of the user's files, in any known (``layouts``) or mapped layout, as tables of QUESTIONS.

Further columns: num_hops, num_rollouts and num_passes (whole numbers), difficulty (easy, medium or difficult). Without
any id it is dataset-line. An id need be unique within its dataset only: if merged files repeat ids, the dataset's name
is prefixed. Other columns are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.files.columns import ColumnMapping, as_in_file, look
from r1_searcher.files.faults import Faults, OnBadRow
from r1_searcher.files.records import Record, identifier, read_records, text_field
from r1_searcher.questions.answers import golds
from r1_searcher.questions.layouts import (
    ALIASES,
    DATASET_NAMES,
    KIND_NAMES,
    NUMBER_NAME,
    NUMBER_NAMES,
    QUESTION_ID_NAMES,
    SUPPORTING_NAMES,
    first,
    flatten_articles,
    known_columns,
    mapped,
    recognise,
    without_header,
)
from r1_searcher.texts import parse_json
from r1_searcher.transcripts.documents import holds_control, neutralise
from r1_searcher.types import schemas

_DIFFICULTIES = ("easy", "medium", "difficult")
WITHOUT_ANSWER, BAD_ROW = "no_answer", "bad_row"
_EXAMPLES = 5  # per reason
_PASSAGES = ("paragraphs", "contexts")


@dataclass
class QuestionCount:
    """What became of a file's questions: ``read`` = ``kept`` + the sum of ``skipped`` (by reason); ``examples`` give
    the first places per reason. ``columns``: our names → the file's, of the first question. ``unknown_levels``: unknown
    values of difficulty and their counts; they are treated as missing."""

    file: str = ""
    read: int = 0
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    unknown_levels: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str, example: str) -> None:
        """Count a skipped question with its place."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _EXAMPLES:
            shown.append(example)


def read_questions(path: Path) -> pa.Table:
    """Return the questions of one file (schema QUESTIONS), in order, as ``read_counted``."""
    return read_counted(path)[0]


def read_counted(
    path: Path,
    *,
    columns: ColumnMapping | None = None,
    on_bad_row: OnBadRow = "stop",
    on_no_answer: Literal["skip", "stop"] = "skip",
    dataset: str | None = None,
) -> tuple[pa.Table, QuestionCount]:
    """Return the questions of one file (schema QUESTIONS), in order, and what became of its rows.

    ``columns``: our names → the file's. ``dataset``: for questions that name none; default: the file's stem. Questions
    without a gold answer are skipped and counted, unless ``on_no_answer`` is stop. Raises ``PipelineError`` for an
    unknown layout, for a file without questions and, unless ``on_bad_row`` is skip, once for all rows that are broken,
    of a wrong type, or repeat an id.
    """
    columns = columns or {}
    count, faults = QuestionCount(path.name), Faults(str(path), on_bad_row)

    def broken(fault: PipelineError, number: int) -> None:
        count.read += 1
        count.leave_out(BAD_ROW, faults.add(fault))

    records = read_records(path, known_columns(columns), without_header(columns, str(path)), on_fault=broken)
    given = (mapped(record, columns) for record in flatten_articles(records))
    reader = _Reader(count, faults, dataset or path.stem, on_no_answer == "skip", "questions.on_bad_row")
    table = reader.table(given, where=str(path), fix="see questions.files in params.yaml")
    count.columns = as_in_file(count.columns, columns)
    return table, count


def table_of(records: Iterable[Record], dataset: str, *, where: str, fix: str | None = None) -> pa.Table:
    """Return the questions (schema QUESTIONS) of ``records``. ``dataset``: for records that name none.

    Raises ``PipelineError`` for every unusable row, and for a question without a gold answer.
    """
    return _Reader(QuestionCount(), Faults(where, "stop"), dataset, leaves_out=False).table(
        records, where=where, fix=fix
    )


@dataclass
class _Reader:
    count: QuestionCount
    faults: Faults
    dataset: str
    leaves_out: bool  # questions without an answer
    parameter: str | None = None  # the parameter that skips bad rows

    def table(self, records: Iterable[Record], *, where: str, fix: str | None) -> pa.Table:
        rows = list(self._rows(records))
        rows = self._with_ids(rows)
        self.faults.check(self.parameter)
        if not rows:
            empty = self.count.skipped.get(WITHOUT_ANSWER)
            what = f"none of its {self.count.read:,} questions has an answer" if empty else "no question"
            raise PipelineError(f"{what} in this file" if fix and not empty else what, where=where, fix=fix)
        self.count.kept = len(rows)
        return pa.Table.from_pylist([row for _, row in rows], schema=schemas.QUESTIONS)

    def _rows(self, records: Iterable[Record]) -> Iterator[tuple[Record, dict[str, Any]]]:
        for record in records:
            self.count.read += 1
            try:
                row = self._row(record)
            except PipelineError as fault:
                self._broken(fault)
                continue
            if row is not None:
                yield record, row

    def _row(self, record: Record) -> dict[str, Any] | None:
        layout = recognise(record)
        self.count.columns = self.count.columns or layout.columns
        fields = record.fields | {name: look(record.fields, name) for name in (layout.question, layout.answers)}
        seen = Record(record.place, record.number, fields, record.textual, record.columns)
        question = "" if _is_missing(fields[layout.question]) else text_field(seen, layout.question)
        if not question:
            raise PipelineError("the question is empty", where=record.place)
        answers = list(dict.fromkeys(golds(seen, layout.answers) + golds(seen, ALIASES)))
        if not answers:
            if self.leaves_out:
                self.count.leave_out(WITHOUT_ANSWER, _short(record.place, self.faults.where))
                return None
            raise PipelineError(f"{layout.answers!r} contains no answer", where=record.place)
        name = first(record, DATASET_NAMES)
        dataset = (_optional_text(record, name) if name else None) or self.dataset
        kind = first(record, KIND_NAMES)
        return {
            "question_id": _question_id(record, dataset),
            "question": question,
            "answers": answers,
            "dataset": dataset,
            "kind": _optional_text(record, kind) if kind else None,
            "supporting_titles": _supporting_titles(record),
            "difficulty": self._level(record),
        } | {name: _optional_number(record, name) for name in NUMBER_NAMES}

    def _level(self, record: Record) -> str | None:
        level = record.fields.get("difficulty")
        if _is_missing(level) or level in _DIFFICULTIES:
            return level if level in _DIFFICULTIES else None
        self.count.unknown_levels[str(level)] = self.count.unknown_levels.get(str(level), 0) + 1
        return None

    def _with_ids(self, rows: list[tuple[Record, dict[str, Any]]]) -> list[tuple[Record, dict[str, Any]]]:
        """Return the rows with unique ids; the dataset's name is prefixed only if that makes them unique."""
        ids = [row["question_id"] for _, row in rows]
        if len(set(ids)) < len(ids):
            named = [f"{row['dataset']}-{row['question_id']}" for _, row in rows]
            if len(set(named)) == len(named):
                return [(record, row | {"question_id": name}) for (record, row), name in zip(rows, named, strict=True)]
        kept, places = [], dict[str, str]()
        for record, row in rows:
            before = places.setdefault(row["question_id"], record.place)
            if before == record.place:
                kept.append((record, row))
                continue
            self._broken(
                PipelineError(
                    f"question id {row['question_id']!r} is a duplicate; it first occurs at {before}",
                    where=record.place,
                    fix="give every question its own id, or none",
                )
            )
        return kept

    def _broken(self, fault: PipelineError) -> None:
        self.count.leave_out(BAD_ROW, self.faults.add(fault))


def _short(place: str, where: str) -> str:
    return place.removeprefix(f"{where}, ")


def without_control(table: pa.Table) -> tuple[pa.Table, int]:
    """Neutralise tags, ends of text and chat tokens in the questions of ``table`` (QUESTIONS); also return how many
    changed.

    A question is data and must open or end nothing in a prompt. Other questions are unchanged.
    """
    texts = table["question"].to_pylist()
    safe = [neutralise(text) if holds_control(text) else text for text in texts]
    number = sum(one != other for one, other in zip(texts, safe, strict=True))
    if not number:
        return table, 0
    place = table.schema.get_field_index("question")
    return table.set_column(place, table.schema.field(place), pa.array(safe, pa.string())), number


def _question_id(record: Record, dataset: str) -> str:
    given = identifier(record, QUESTION_ID_NAMES)
    if given:
        return given[1]
    number = identifier(record, (NUMBER_NAME,))
    # An idx is unique within its file only, so the dataset's name is prefixed.
    return f"{dataset}-{number[1] if number else record.number}"


def _supporting_titles(record: Record) -> list[str]:
    name = first(record, SUPPORTING_NAMES)
    value: Any = None if name is None else record.fields[name]
    if name is None or _is_missing(value):
        return _provenance(record)
    if isinstance(value, str) and name != "supporting_titles":  # some Parquet copies hold JSON
        try:
            value = parse_json(value)
        except json.JSONDecodeError:
            raise PipelineError(f"{name!r} is not laid out as its dataset has it", where=record.place) from None
    if name == "supporting_titles":
        return golds(record, name)
    if name in _PASSAGES and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return []  # the passages' texts alone
    try:
        if name == "supporting_facts":  # HotpotQA: [[title, sentence], …]; its hub copies: {"title": […], …}
            titles = value["title"] if isinstance(value, dict) else [title for title, _ in value]
        else:  # MuSiQue's paragraphs, IRCoT's contexts
            titles = [paragraph["title"] for paragraph in value if paragraph["is_supporting"]]
    except (TypeError, KeyError, ValueError):
        raise PipelineError(f"{name!r} is not laid out as its dataset has it", where=record.place) from None
    return golds(Record(record.place, record.number, {name: titles}), name)


def _provenance(record: Record) -> list[str]:
    """Return the titles of the pages in KILT's output."""
    output = record.fields.get("output")
    items = [one for one in output if isinstance(one, dict)] if isinstance(output, list) else []
    pages = [page for one in items for page in one.get("provenance") or [] if isinstance(page, dict)]
    return list(dict.fromkeys(page["title"] for page in pages if isinstance(page.get("title"), str)))


def _is_missing(value: Any) -> bool:
    """Return whether a cell has nothing; pandas writes NaN."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _optional_text(record: Record, name: str) -> str | None:
    return None if _is_missing(record.fields.get(name)) else text_field(record, name) or None


def _optional_number(record: Record, name: str) -> int | None:
    value = record.fields.get(name)
    if _is_missing(value):
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PipelineError(f"{name!r} must be a whole number, got {value!r:.40}", where=record.place)
    return value
