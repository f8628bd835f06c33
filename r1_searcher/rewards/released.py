"""Read transcript files of the R1-Searcher release, and rollouts as verl dumps them and as TRL has them, unchanged.

A row has ``answer`` (a string, or a list of aliases), ``gen_text_store`` (the transcript after the prompt's
``<think>``) and optionally ``pred_ans`` (the prediction) and ``gpt4o_output`` (the judge's verdict). Other keys are
ignored. verl's rows have ``output`` and ``gts`` instead; TRL's have ``prompt``, ``completion`` (a text, or one message
of the assistant) and ``answers``. Files are JSON lines, an array, or Parquet; all but Parquet may be compressed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.golds import NotGold, parse_golds
from r1_searcher.texts import parse_json
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Transcript

_PEEKED = 4096  # bytes that tell whether a file has JSON lines
_COLUMNS = ("gen_text_store", "answer", "answers", "output", "gts", "prompt", "completion")


@dataclass(frozen=True)
class ReleasedRow:
    """One transcript without provenance.

    ``question`` is empty if the row has none; ``prediction`` is None if no answer was given; ``judge`` is the judge's
    verdict, None if missing or neither true nor false; ``place`` is "file, line 3", for messages.
    """

    question: str
    golds: tuple[str, ...]
    transcript: Transcript
    prediction: str | None
    judge: bool | None
    place: str


def read_transcripts(path: Path | str) -> list[ReleasedRow]:
    """Return the rows of a file in order, skipping blank lines. Raises ``PipelineError`` with the number of a broken
    line, or row of a Parquet file."""
    try:
        rows = [_row(raw, where=where) for raw, where in _records(path)]
    except (FileNotFoundError, IsADirectoryError):
        raise PipelineError("no such file", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise PipelineError(f"not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from None
    if not rows:
        raise PipelineError("contains no transcripts", where=str(path), fix="one JSON object per line")
    return rows


def is_parquet(path: Path | str) -> bool:
    """Return whether a file begins as Parquet does. Raises ``OSError``."""
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def first_names(path: Path) -> Collection[str]:
    """Return the names of the first row's columns; none of a file without rows. Raises as ``read_transcripts``."""
    if is_parquet(path):
        import pyarrow.parquet as pq  # JSON lines are scored without pyarrow

        from r1_searcher.files.artefacts import reading

        with reading(path):
            names: list[str] = pq.read_schema(path).names
        return names
    first, _ = next(_records(path), ({}, None))
    return first if isinstance(first, Mapping) else ()


def _records(path: Path | str) -> Iterator[tuple[object, str]]:
    if is_parquet(path):
        return _parquet_rows(path)
    with open(path, "rb") as file:
        start = file.read(_PEEKED).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return _lines(path) if start in (b"", b"{") else _packed(Path(path))


def _packed(path: Path) -> Iterator[tuple[object, str]]:
    """Yield the rows of a JSON array or a compressed file."""
    from r1_searcher.files.records import read_records  # as in _parquet_rows

    for record in read_records(path, _COLUMNS):
        yield record.fields, record.place


def _lines(path: Path | str) -> Iterator[tuple[object, str]]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    yield parse_json(line), where
                except json.JSONDecodeError as error:
                    raise PipelineError(f"not JSON: {error}", where=where) from None


def _parquet_rows(path: Path | str) -> Iterator[tuple[object, str]]:
    from r1_searcher.files.artefacts import read_table  # JSON lines are scored without pyarrow

    for number, row in enumerate(read_table(path).to_pylist(), 1):
        yield row, f"{path}, row {number}"


def names_of(paths: Sequence[Path | str]) -> list[str]:
    """Return each file's name for the output: its name, or its path if two share a name."""
    names = [Path(path).name for path in paths]
    seen = Counter(names)
    return [str(path) if seen[name] > 1 else name for path, name in zip(paths, names, strict=True)]


def _row(found: object, *, where: str) -> ReleasedRow:
    if not isinstance(found, dict):
        raise PipelineError(f"a JSON object was expected, not {type(found).__name__}", where=where)
    raw = _as_released(found, where=where)
    for key in ("answer", "gen_text_store"):
        if key not in raw:
            raise PipelineError(f"{key!r} is missing", where=where, fix=f"the line has {', '.join(raw) or 'no keys'}")
    text = raw["gen_text_store"]
    if not isinstance(text, str):
        raise PipelineError(f"'gen_text_store' must be a string, not {type(text).__name__}", where=where)
    prediction = raw.get("pred_ans")
    if prediction is not None and not isinstance(prediction, str):
        raise PipelineError(f"'pred_ans' must be a string, not {type(prediction).__name__}", where=where)
    question = raw.get("question", "")
    transcript = Transcript(text)
    return ReleasedRow(
        question=question.strip() if isinstance(question, str) else "",
        golds=_golds(raw["answer"], where=where),
        transcript=transcript,
        # As in the file, including white space: the published figures score this string.
        prediction=grammar.extract_answer(transcript.policy_text) if prediction is None else prediction,
        judge=parse_verdict(raw.get("gpt4o_output")),
        place=where,
    )


def _as_released(raw: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return a row with the release's names, if it has verl's or TRL's."""
    row = dict(raw)
    if "gen_text_store" in row:
        return row
    if "output" in row and "gts" in row:
        row |= {"gen_text_store": row["output"], "answer": row["gts"]}
    elif "prompt" in row and "completion" in row:
        row["gen_text_store"] = _completion(row["completion"], where=where)
        row |= {"answer": row["answers"]} if "answers" in row else {}
    return row


def _completion(given: object, *, where: str) -> str:
    if isinstance(given, str):
        return given
    match given:
        case [{"role": "assistant", "content": str(text)}]:
            return text
    raise PipelineError("'completion' must be a text, or one message of the assistant", where=where)


def _golds(answer: object, *, where: str) -> tuple[str, ...]:
    try:
        golds = tuple(parse_golds(answer))
    except NotGold as fault:
        raise PipelineError(f"'answer' {fault}", where=where) from None
    if not golds:
        raise PipelineError("'answer' must be a gold answer, or a list of them, not empty", where=where)
    return golds


def parse_verdict(reply: object) -> bool | None:
    """Parse a judge's reply: "True" or "False" in any case, with optional full stop and white space; else None."""
    if isinstance(reply, bool):
        return reply
    word = reply.strip().lower().removesuffix(".") if isinstance(reply, str) else None
    return None if word is None else {"true": True, "false": False}.get(word)
