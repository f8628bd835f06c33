"""Judged accuracy (the paper's ACC_L): a language model decides whether an answer means the same as the gold answer.

Pure parts: the judge's prompt, the reading of its reply, and a benchmark's figures. A judge's reply is a measurement
that cannot be repeated, so it is recorded (``recorded.py``) and read from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r1_searcher.chat.chat_server import Reply
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint
from r1_searcher.files.templates import read_template
from r1_searcher.rewards.released import parse_verdict
from r1_searcher.statistics import bootstrap
from r1_searcher.transcripts.documents import fold_space, neutralise, restore

_PROMPTS = Path(__file__).parent / "prompts"
HOLES = ("question", "gold", "prediction")
NO_ANSWER, JUDGED, UNPARSABLE, MISSING = "no_answer", "judged", "unparsable", "missing"  # states of a verdict
_HOLE = re.compile(r"\{(question|gold|prediction)\}")
_DIGITS = 6


@dataclass(frozen=True)
class JudgeCase:
    """One answer to judge. ``prediction`` is stripped, and empty if no answer was given."""

    question: str
    golds: tuple[str, ...]
    prediction: str


@dataclass(frozen=True)
class Judgement:
    """``right`` is None if the judge's reply is neither (UNPARSABLE) or there is no reply (MISSING)."""

    state: str
    right: bool | None
    reply: Reply | None = None


def case_of(row: Mapping[str, Any]) -> JudgeCase:
    """Return the case of an evaluation's row (``question``, ``answers``, ``prediction``)."""
    return JudgeCase(row["question"], tuple(row["answers"]), (row["prediction"] or "").strip())


def load_template(name_or_path: str) -> str:
    """Return a built-in prompt by name, or a user's file, with the holes {question}, {gold}, {prediction}.

    Raises ``PipelineError`` if a hole is missing.
    """
    path, template = read_template(name_or_path, _PROMPTS, where="judge.prompt")
    template = template.rstrip()
    missing = set(HOLES) - set(_HOLE.findall(template))
    if missing:
        raise PipelineError(f"a judge's prompt needs {{{min(missing)}}}", where=path)
    return template


def ask(template: str, case: JudgeCase) -> str:
    """Return the prompt for one case. Several gold answers are joined by " or ".

    Each text is one line without tags, chat tokens and control characters (``data_line``): a prediction can end neither
    its field nor the judge's turn. The holes are filled in one pass, so that "{gold}" in a prediction stays as it is.
    """
    asked = _on_single_lines(case)
    filled = {"question": asked.question, "gold": " or ".join(asked.golds), "prediction": asked.prediction}
    return _HOLE.sub(lambda hole: filled[hole[1]], template)


def data_line(text: str) -> str:
    """Return a text as the judge gets it: neutralised like passages, unless it already is (questions from files
    are)."""
    line = fold_space(text)
    return line if neutralise(restore(line)) == line else neutralise(line)


def _on_single_lines(case: JudgeCase) -> JudgeCase:
    return JudgeCase(data_line(case.question), tuple(map(data_line, case.golds)), data_line(case.prediction))


def key_of(model: str, prompt_sha256: str, case: JudgeCase, *, as_it_stands: bool = False) -> str:
    """Return the key of a recorded reply: sha256 of judge, prompt, question, gold answers and prediction.

    If texts are changed for the judge, that is hashed too: an older reply to the unchanged texts (``as_it_stands``) is
    not a reply to the present ones.
    """
    parts: list[Any] = [model, prompt_sha256, case.question, list(case.golds), case.prediction]
    return fingerprint(parts if as_it_stands or _on_single_lines(case) == case else [*parts, "neutralised"])


def read_verdict(case: JudgeCase, reply: Reply | None) -> Judgement:
    """Return the verdict of a reply (None: not asked yet). A missing answer is wrong without asking."""
    if not case.prediction:
        return Judgement(NO_ANSWER, False)
    if reply is None:
        return Judgement(MISSING, None)
    right = parse_verdict(reply.text)
    return Judgement(UNPARSABLE if right is None else JUDGED, right, reply)


def judged_figures(verdicts: Sequence[Judgement]) -> dict[str, Any]:
    """Return ``acc_l``, the share judged right among those with a verdict, with its interval and counts.

    ``acc_l_n`` counts verdicts, including questions without an answer; ``acc_l_unparsable`` replies and
    ``acc_l_missing`` questions are in no share. Empty if no reply was ever recorded: absent, not zero.
    """
    if not any(verdict.reply is not None for verdict in verdicts):
        return {}
    states = [verdict.state for verdict in verdicts]
    counts = {"acc_l_unparsable": states.count(UNPARSABLE), "acc_l_missing": states.count(MISSING)}
    right = np.array([verdict.right for verdict in verdicts if verdict.right is not None], dtype=np.float64)  # (N,)
    if not right.size:
        return {"acc_l_n": 0, **counts}
    low, high = bootstrap.intervals(right[:, None])[0]
    return {
        "acc_l": round(float(right.mean()), _DIGITS),
        "acc_l_ci": [round(float(low), _DIGITS), round(float(high), _DIGITS)],
        "acc_l_n": int(right.size),
        **counts,
    }
