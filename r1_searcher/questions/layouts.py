"""How the questions of a file are laid out: recognised by its columns, or as the user's mapping says.

| what | columns, the first that is there |
|---|---|
| question | question, question_text, Question, input (KILT), extra_info.question (verl) |
| gold answers | answers, ground_truths, ground_truth, answer, golden_answers, answers_objects (IRCoT), Answer, possible_answers (PopQA), output (KILT), reward_model.ground_truth, extra_info.answer (verl) |
| more of them | answer_aliases (MuSiQue) |
| id | question_id, id, _id, QuestionId; idx, a running number of its dataset |
| dataset | dataset, data_source |
| kind | kind, type |
| titles of the passages that answer it | supporting_titles, supporting_facts (HotpotQA, 2Wiki), paragraphs (MuSiQue), contexts (IRCoT), output (KILT); SQuAD's own |

SQuAD's articles, whose questions stand in paragraphs, are taken apart. TSV and CSV without a header: question and answers,
as DPR has them.
"""  # noqa: E501  # the table

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.columns import ABSENT, ColumnMapping, look, positions, renamed, top_level
from r1_searcher.files.delimited import looks_like_header
from r1_searcher.files.records import Record

QUESTION_NAMES = ("question", "question_text", "Question", "input", "extra_info.question")
ANSWER_NAMES = (
    "answers",
    "ground_truths",  # before answer, which is a system's where both are
    "ground_truth",
    "answer",
    "golden_answers",
    "answers_objects",
    "Answer",
    "possible_answers",
    "output",
    "reward_model.ground_truth",
    "extra_info.answer",
)
ALIASES = "answer_aliases"
QUESTION_ID_NAMES = ("question_id", "id", "_id", "QuestionId")
NUMBER_NAME = "idx"
DATASET_NAMES = ("dataset", "data_source")
KIND_NAMES = ("kind", "type")
SUPPORTING_NAMES = ("supporting_titles", "supporting_facts", "paragraphs", "contexts")
NUMBER_NAMES = ("num_hops", "num_rollouts", "num_passes")
_PARAMETER = "questions.columns"
_NAMES = (
    *(*QUESTION_NAMES, *ANSWER_NAMES, ALIASES, *QUESTION_ID_NAMES, NUMBER_NAME, *DATASET_NAMES, *KIND_NAMES),
    *(*NUMBER_NAMES, "difficulty", *SUPPORTING_NAMES),
)
QUESTION_COLUMNS = tuple(dict.fromkeys(top_level(name) for name in _NAMES))


@dataclass(frozen=True)
class QuestionLayout:
    """Which columns hold question and answers; ``id`` and ``dataset`` are None if the file has none."""

    question: str
    answers: str
    id: str | None
    dataset: str | None

    @property
    def columns(self) -> dict[str, str]:
        """Return our names → the file's, for the report."""
        found = {"question": self.question, "answers": self.answers, "question_id": self.id, "dataset": self.dataset}
        return {name: column for name, column in found.items() if column is not None}


def known_columns(columns: ColumnMapping) -> tuple[str, ...]:
    """Return the names of the columns that are read."""
    return (
        *QUESTION_COLUMNS,
        *(top_level(path) for path in columns.values()),
        *(str(path) for path in columns.values()),
    )


def without_header(columns: ColumnMapping, where: str) -> Any:
    """Return ``read_records``' ``headerless`` argument."""

    def by_content(rows: Sequence[Sequence[str]]) -> Sequence[str]:
        if len(rows[0]) == 2 and all(row[1].startswith(("[", '"[')) for row in rows if len(row) == 2):
            return ("question", "answers")
        header = f"the first line looks like a header of unknown names: {', '.join(rows[0])}"
        raise PipelineError(
            header if looks_like_header(rows) else "no header",
            where=f"{where}, line 1",
            fix=f"first line: names among {', '.join(QUESTION_COLUMNS)}; or {_PARAMETER}: {{question: 1, answers: 2}}, "
            "columns counted from 1",
        )

    return positions(columns, where=_PARAMETER) or by_content


def mapped(record: Record, columns: ColumnMapping) -> Record:
    """Return the record under our names, per the user's mapping."""
    if not columns:
        return record
    fields = renamed(record.fields, columns, place=record.place, where=_PARAMETER, found=record.found)
    return Record(record.place, record.number, fields, record.textual, record.columns, frozenset(columns))


def recognise(record: Record) -> QuestionLayout:
    """Return a record's layout; records of one JSON Lines file may differ.

    Raises ``PipelineError`` that lists the file's columns, the accepted names and the mapping.
    """
    question, answers = first(record, QUESTION_NAMES), first(record, ANSWER_NAMES)
    for name, what, known in (
        (question, "column 'question' is missing", QUESTION_NAMES),
        (answers, "column 'answers' is missing", ANSWER_NAMES),
    ):
        if name is None:
            raise PipelineError(
                what,
                where=record.place,
                fix=f"columns found: {', '.join(record.found) or 'none'}; known: {', '.join(known)}; "
                f"name yours by {_PARAMETER}: {{question: NAME, answers: NAME}}",
            )
    assert question is not None and answers is not None
    return QuestionLayout(
        question, answers, first(record, (*QUESTION_ID_NAMES, NUMBER_NAME)), first(record, DATASET_NAMES)
    )


def first(record: Record, names: Iterable[str]) -> str | None:
    """Return the first of ``names`` with a value, else the first that exists; a name that the user mapped has no
    others."""
    names = tuple(names)
    if names[0] in record.mapped:
        return names[0]
    there = [name for name in names if look(record.fields, name) is not ABSENT]
    return next((name for name in there if look(record.fields, name) not in (None, "")), there[0] if there else None)


def flatten_articles(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records; SQuAD's articles as a record per question, with the article's title as supporting."""
    for record in records:
        paragraphs = record.fields.get("paragraphs")
        if not (
            isinstance(paragraphs, list) and paragraphs and isinstance(paragraphs[0], dict) and "qas" in paragraphs[0]
        ):
            yield record
            continue
        number = 0
        for paragraph in paragraphs:
            for question in paragraph.get("qas") or []:
                number += 1
                titles = {"supporting_titles": [str(record.fields["title"])]} if record.fields.get("title") else {}
                place = f"{record.place}, question {number}"
                # Numbers continue across articles, so that ids made of them differ.
                yield Record(place, record.number * 100_000 + number, {**question, **titles})
