"""Questions of the user's own, from JSONL, a JSON array, TSV (with a header) or Parquet.

| column | |
|---|---|
| question, question_text, or Question | needed |
| answers, answer, golden_answers, or Answer | needed: a string, or a list of strings of which each one is right |
| answer_aliases | optional: more right answers, as MuSiQue has them |
| question_id, id, or _id | optional: the id, kept as it is |
| idx | optional: a running number as the released R1-Searcher files have it; the id is dataset-idx |
| dataset | optional; without it, the file's name without its ending |
| kind, or type | optional, e.g. composition, comparison |
| num_hops, num_rollouts, num_passes | optional whole numbers |
| difficulty | optional: easy, medium or difficult |
| supporting_titles | optional: titles of the passages that hold the answer |

Where there is no id at all it is dataset-line. In TSV, lists are written as JSON. Titles are also found
where HotpotQA (supporting_facts), MuSiQue (paragraphs) and IRCoT's samples (contexts, is_supporting;
answers_objects) have them. Other columns are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.files.records import Record, identifier, read_records, text_field
from r1_searcher.texts import parse_json
from r1_searcher.transcripts.documents import holds_control, neutralise
from r1_searcher.types import schemas

QUESTION_NAMES = ("question", "question_text", "Question")
ANSWER_NAMES = ("answers", "answer", "golden_answers", "answers_objects", "Answer")
_ID_NAMES = ("question_id", "id", "_id")
KIND_NAMES = ("kind", "type")
TITLE_NAMES = ("supporting_titles", "supporting_facts", "paragraphs", "contexts")
NUMBER_NAMES = ("num_hops", "num_rollouts", "num_passes")
DIFFICULTIES = ("easy", "medium", "difficult")
_COLUMNS = (
    *QUESTION_NAMES,
    *ANSWER_NAMES,
    "answer_aliases",
    *_ID_NAMES,
    "idx",
    "dataset",
    *KIND_NAMES,
    *NUMBER_NAMES,
    "difficulty",
    *TITLE_NAMES,
)


def read_questions(path: Path) -> pa.Table:
    """Return the questions of one file (schema QUESTIONS), in the file's order.

    Raises ``PipelineError`` with file and line for a broken line, a missing column, an empty question or answer, and an
    id that occurs twice; with the file if it has no question.
    """
    return table_of(read_records(path, _COLUMNS), path.stem, where=str(path), fix="see questions.files in params.yaml")


def table_of(records: Iterable[Record], dataset: str, *, where: str, fix: str | None = None) -> pa.Table:
    """Return the questions (schema QUESTIONS) of ``records``, checked as in ``read_questions``. ``dataset``: the
    default; ``where`` and ``fix``: for the message if there is no question."""
    rows: list[dict[str, Any]] = []
    places: dict[str, str] = {}
    for record in records:
        row = _question(record, dataset)
        first = places.setdefault(row["question_id"], record.place)
        if first != record.place:
            raise PipelineError(
                f"question id {row['question_id']!r} occurs a second time, first at {first}",
                where=record.place,
                fix="give every question an id of its own, or none",
            )
        rows.append(row)
    if not rows:
        raise PipelineError("no question in this file" if fix else "no question", where=where, fix=fix)
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


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


def _question(record: Record, stem: str) -> dict[str, Any]:
    question = text_field(record, _present(record, QUESTION_NAMES) or QUESTION_NAMES[0])
    if not question:
        raise PipelineError("the question is empty", where=record.place)
    dataset = _optional_text(record, "dataset") or stem
    kind = _present(record, KIND_NAMES)
    row: dict[str, Any] = {
        "question_id": _question_id(record, dataset),
        "question": question,
        "answers": _answers(record),
        "dataset": dataset,
        "kind": _optional_text(record, kind) if kind else None,
        "supporting_titles": _supporting_titles(record),
        "difficulty": _optional_text(record, "difficulty"),
    }
    if row["difficulty"] not in (None, *DIFFICULTIES):
        raise PipelineError(
            f"unknown difficulty {row['difficulty']!r}", where=record.place, fix=f"known: {', '.join(DIFFICULTIES)}"
        )
    return row | {name: _optional_number(record, name) for name in NUMBER_NAMES}


def _present(record: Record, names: tuple[str, ...]) -> str | None:
    """Return the first of ``names`` that has a value."""
    return next((name for name in names if record.fields.get(name) not in (None, "")), None)


def _question_id(record: Record, dataset: str) -> str:
    given = identifier(record, _ID_NAMES)
    if given:
        return given[1]
    number = identifier(record, ("idx",))
    # An idx is unique only in its own file, so it is prefixed with the dataset's name.
    return f"{dataset}-{number[1] if number else record.number}"


def _answers(record: Record) -> list[str]:
    name = _present(record, ANSWER_NAMES)
    if name is None:
        given = [name for name in ANSWER_NAMES if name in record.fields]
        if given:
            raise PipelineError(f"{given[0]!r} is empty", where=record.place, fix="give at least one right answer")
        found = ", ".join(record.fields) or "none"
        raise PipelineError("column 'answer' is missing", where=record.place, fix=f"columns found: {found}")
    value = record.fields[name]
    answers = _spans(record, value) if name == "answers_objects" else _strings(record, name, value)
    answers += _strings(record, "answer_aliases", record.fields.get("answer_aliases") or [])
    if not answers or not all(answers):
        raise PipelineError(f"{name!r} holds no or an empty answer", where=record.place)
    return list(dict.fromkeys(answers))


def _strings(record: Record, name: str, value: Any) -> list[str]:
    """Return the strings of a value that is a string, a whole number, or a list of these (in TSV: a JSON list)."""
    if isinstance(value, str) and value.lstrip().startswith("[") and record.textual:
        try:
            value = parse_json(value)
        except json.JSONDecodeError:
            raise PipelineError(f"{name!r} starts like a JSON list but is none", where=record.place) from None
    values = value if isinstance(value, list) else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise PipelineError(f"{name!r} must be a string or a list of strings, got {one!r:.40}", where=record.place)
    return [str(one).strip() for one in values]


def _spans(record: Record, objects: Any) -> list[str]:
    """Return the answers in IRCoT's layout: a list of {"spans": [...]}."""
    try:
        return [span for answer in objects for span in _strings(record, "spans", answer["spans"])]
    except (TypeError, KeyError):
        raise PipelineError("'answers_objects' must be a list of objects with spans", where=record.place) from None


def _supporting_titles(record: Record) -> list[str]:
    name = _present(record, TITLE_NAMES)
    if name is None:
        return []
    value = record.fields[name]
    if name == "supporting_titles":
        return list(dict.fromkeys(title for title in _strings(record, name, value) if title))
    try:
        if name == "supporting_facts":  # HotpotQA: [[title, sentence], …]; its hub copies: {"title": […], …}
            titles = value["title"] if isinstance(value, dict) else [title for title, _ in value]
        else:  # MuSiQue's paragraphs, IRCoT's contexts
            titles = [paragraph["title"] for paragraph in value if paragraph["is_supporting"]]
    except (TypeError, KeyError, ValueError):
        raise PipelineError(f"{name!r} is not laid out as its dataset has it", where=record.place) from None
    return list(dict.fromkeys(_strings(record, name, titles)))


def _optional_text(record: Record, name: str) -> str | None:
    if record.fields.get(name) is None:
        return None
    return text_field(record, name) or None


def _optional_number(record: Record, name: str) -> int | None:
    value = record.fields.get(name)
    if value is None or value == "":
        return None
    if record.textual and isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PipelineError(f"{name!r} must be a whole number, got {value!r:.40}", where=record.place)
    return value
