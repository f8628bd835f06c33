"""Read transcript files of the R1-Searcher release, and rollouts as verl dumps them: JSON lines, unchanged.

A row has ``answer`` (a string, or a list of aliases), ``gen_text_store`` (the transcript after the prompt's
``<think>``) and optionally ``pred_ans`` (the prediction) and ``gpt4o_output`` (the judge's verdict). Other keys are
ignored. verl's rows have ``output`` and ``gts`` instead.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.texts import parse_json
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Transcript


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
    line."""
    rows: list[ReleasedRow] = []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    rows.append(_row(line, where=f"{path}, line {number}"))
    except (FileNotFoundError, IsADirectoryError):
        raise PipelineError("no such file", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise PipelineError(f"not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from None
    if not rows:
        raise PipelineError("holds no transcripts", where=str(path), fix="one JSON object per line")
    return rows


def names_of(paths: Sequence[Path | str]) -> list[str]:
    """Return each file's name for the output: its name, or its path if two share a name."""
    names = [Path(path).name for path in paths]
    seen = Counter(names)
    return [str(path) if seen[name] > 1 else name for path, name in zip(paths, names, strict=True)]


def _row(line: str, *, where: str) -> ReleasedRow:
    try:
        raw = parse_json(line)
    except json.JSONDecodeError as error:
        raise PipelineError(f"not JSON: {error}", where=where) from None
    if not isinstance(raw, dict):
        raise PipelineError(f"a JSON object was expected, not {type(raw).__name__}", where=where)
    if "gen_text_store" not in raw and "output" in raw and "gts" in raw:
        raw = {**raw, "gen_text_store": raw["output"], "answer": raw["gts"]}
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


def _golds(answer: object, *, where: str) -> tuple[str, ...]:
    listed = answer if isinstance(answer, list) else [answer]
    golds = tuple(str(gold) for gold in listed if isinstance(gold, str | int) and not isinstance(gold, bool))
    given = tuple(gold for gold in golds if gold.strip())
    if not given or len(golds) < len(listed):
        raise PipelineError("'answer' must be a gold answer, or a list of them, not empty", where=where)
    return given


def parse_verdict(reply: object) -> bool | None:
    """Parse a judge's reply: "True" or "False" in any case, with optional full stop and white space; else None."""
    if isinstance(reply, bool):
        return reply
    word = reply.strip().lower().removesuffix(".") if isinstance(reply, str) else None
    return None if word is None else {"true": True, "false": False}.get(word)
