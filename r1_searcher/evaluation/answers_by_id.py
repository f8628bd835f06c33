"""Predictions that name their questions by id, beside a file of questions with the gold answers.

| form | of |
|---|---|
| one object: id → text | SQuAD |
| one object with ``answer``: id → text | HotpotQA, 2WikiMultiHopQA |
| records with an id and a prediction, ``output.0.answer`` or ``answer`` | KILT; any |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.predictions import PREDICTION_NAMES, Prediction, predicted
from r1_searcher.files import streams
from r1_searcher.files.columns import ABSENT, look, top_level
from r1_searcher.files.faults import Faults
from r1_searcher.files.records import Record, identifier, read_records
from r1_searcher.questions.files import read_questions
from r1_searcher.questions.layouts import QUESTION_ID_NAMES
from r1_searcher.texts import parse_json

_NAMES = (*PREDICTION_NAMES, "output.0.answer", "answer")
_COLUMNS = (*QUESTION_ID_NAMES, *map(top_level, _NAMES))


def read_answers(path: Path, questions: Path) -> list[Prediction]:
    """Return a row per question of the file ``questions`` that has a gold answer, in its order.

    Raises ``PipelineError`` unless each of them has exactly one prediction (null if there was no answer), and for an
    id that is not among them.
    """
    table = read_questions(questions)
    golds = dict(zip(table["question_id"].to_pylist(), table["answers"].to_pylist(), strict=True))
    given = _by_id(path)
    if unknown := [name for name in given if name not in golds]:
        raise PipelineError(
            f"{len(unknown):,} of {len(given):,} ids are of no question with a gold answer, such as {unknown[0]!r}",
            where=str(path),
            fix=f"name the questions' file; ids there: {', '.join(map(repr, list(golds)[:3]))}",
        )
    if absent := [name for name in golds if name not in given]:
        raise PipelineError(
            f"{len(absent):,} of {len(golds):,} questions have no prediction, such as {absent[0]!r}",
            where=str(path),
            fix="give null if there was no answer",
        )
    return [Prediction(tuple(answers), given[name]) for name, answers in golds.items()]


def _by_id(path: Path) -> dict[str, str | None]:
    faults, found = Faults(str(path), "stop"), dict[str, str | None]()

    def broken(fault: PipelineError, _: int) -> None:
        faults.add(fault)

    whole = _object(path)
    records = read_records(path, _COLUMNS, on_fault=broken) if whole is None else _entries(path, whole)
    for record in records:
        try:
            name, prediction = _row(record)
            if name in found:
                raise PipelineError(f"a second prediction for the id {name!r}", where=record.place)
            found[name] = prediction
        except PipelineError as fault:
            faults.add(fault)
    faults.check()
    return found


def _object(path: Path) -> Mapping[str, Any] | None:
    """Return the predictions of a file that is one object by id; None for records."""
    if streams.content_kind(path) not in (".json", ".jsonl"):
        return None
    with streams.opened(path) as stream:
        try:
            value = parse_json(stream.read())
        except json.JSONDecodeError:  # JSON lines; or broken, as the reader of records then says
            return None
    if not isinstance(value, dict) or any(name in value for name in QUESTION_ID_NAMES):
        return None
    inner = value.get("answer")
    return inner if isinstance(inner, dict) else value


def _entries(path: Path, whole: Mapping[str, Any]) -> Iterator[Record]:
    for number, (name, prediction) in enumerate(whole.items(), 1):
        yield Record(f"{path}, {name!r}", number, {"question_id": name, "prediction": prediction})


def _row(record: Record) -> tuple[str, str | None]:
    given = identifier(record, QUESTION_ID_NAMES)
    name = next((name for name in _NAMES if look(record.fields, name) is not ABSENT), None)
    if given is None or name is None:
        known = QUESTION_ID_NAMES if given is None else _NAMES
        raise PipelineError(
            f"no column of {'an id' if given is None else 'a prediction'} ({', '.join(known)})",
            where=record.place,
            fix=f"columns found: {', '.join(record.found) or 'none'}",
        )
    return given[1], predicted(record, name)
