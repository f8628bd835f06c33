"""Files of plain predictions: gold answers and a prediction per row, in any kind of file and any form of answers.

| what | columns, the first that is there |
|---|---|
| prediction | pred_ans, prediction, pred, predicted_answer, output.pred (FlashRAG) |
| gold answers | as in question files (``r1_searcher.questions.layouts``); beside a prediction, ``answer`` is the gold |
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.files.columns import ABSENT, look, top_level
from r1_searcher.files.faults import Faults
from r1_searcher.files.records import Record, read_records
from r1_searcher.golds import number_text
from r1_searcher.questions.answers import golds
from r1_searcher.questions.layouts import ALIASES, ANSWER_NAMES, first

PREDICTION_NAMES = ("pred_ans", "prediction", "pred", "predicted_answer", "output.pred")
_GOLD_NAMES = tuple(name for name in ANSWER_NAMES if name != "output")  # FlashRAG's output is the prediction
_COLUMNS = tuple(map(top_level, (*PREDICTION_NAMES, *_GOLD_NAMES, ALIASES)))


@dataclass(frozen=True)
class Prediction:
    """One row; ``prediction`` is None if the policy gave no answer."""

    golds: tuple[str, ...]
    prediction: str | None


def read_predictions(path: Path) -> list[Prediction]:
    """Return a file's rows in order.

    Raises ``PipelineError`` once for all rows that are broken or lack a gold answer or a prediction, and for a file
    without rows.
    """
    faults = Faults(str(path), "stop")
    rows = list(_rows(path, faults))
    faults.check()
    if not rows:
        raise PipelineError("contains no predictions", where=str(path))
    return rows


def _rows(path: Path, faults: Faults) -> Iterator[Prediction]:
    for record in read_records(path, _COLUMNS, on_fault=lambda fault, _: _noted(faults, fault)):
        try:
            yield _row(record)
        except PipelineError as fault:
            faults.add(fault)


def _noted(faults: Faults, fault: PipelineError) -> None:
    faults.add(fault)


def _row(record: Record) -> Prediction:
    answers = first(record, _GOLD_NAMES)
    name = next((name for name in PREDICTION_NAMES if look(record.fields, name) is not ABSENT), None)
    for found, what, known in ((answers, "gold answers", _GOLD_NAMES), (name, "a prediction", PREDICTION_NAMES)):
        if found is None:
            raise PipelineError(
                f"no column of {what} ({', '.join(known)})",
                where=record.place,
                fix=f"columns found: {', '.join(record.found) or 'none'}",
            )
    assert answers is not None and name is not None
    fields = record.fields | {answers: look(record.fields, answers)}
    seen = Record(record.place, record.number, fields, record.textual, record.columns)
    listed = golds(seen, answers) + golds(seen, ALIASES)
    if not listed:
        raise PipelineError(f"{answers!r} contains no answer", where=record.place)
    return Prediction(tuple(listed), predicted(record, name))


def predicted(record: Record, name: str) -> str | None:
    """Return the prediction in column ``name``, a number as its digits; None for null and NaN. Raises
    ``PipelineError``."""
    value = look(record.fields, name)
    if value is None or (isinstance(value, float) and math.isnan(value)):  # the latter is pandas' null
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PipelineError(f"{name!r} must be a string, got {value!r:.40}", where=record.place)
    return value if isinstance(value, str) else number_text(value)
