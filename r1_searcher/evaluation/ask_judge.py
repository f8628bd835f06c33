"""`python -m stages.evaluate judge`: judge answers of evaluated policies and of released transcripts.

Recorded verdicts are not requested again. If some requests fail, the rest is finished and written first; then an error
says how many are missing, and the same command requests only those.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params as contract
from r1_searcher import tables
from r1_searcher.chat.chat_server import ChatServer, RequestFailed, TokenUsage
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.summary_commands import evaluation_folders
from r1_searcher.files.artefacts import read_metadata, read_table, write_table
from r1_searcher.judging.judge import JudgeCase, Judgement, ask, case_of, judged_figures, load_template
from r1_searcher.judging.recorded import JudgeRecord
from r1_searcher.progress import Paced
from r1_searcher.rewards.released import read_transcripts
from r1_searcher.shown import json_text, show, show_lines, terminal_width
from r1_searcher.types.schemas import EVALUATION

# One row per answer, with the judge's verdict.
VERDICTS = pa.schema(
    [
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("prediction", pa.string()),  # empty if no answer was given
        ("state", pa.string()),  # judged, no_answer, unparsable, missing
        ("right", pa.bool_()),  # null if there is no verdict
        ("reply", pa.string()),  # null if the judge was not asked
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Answers:
    """The answers of one file. ``name``: policy/benchmark of an evaluation, or the stem of a transcript file."""

    name: str
    ids: list[str]
    cases: list[JudgeCase]


def find(places: Iterable[Path]) -> list[Answers]:
    """Return the answers of evaluation files (Parquet, or folders of them) and of transcript files (JSON lines)."""
    found: list[Answers] = []
    for place in places:
        if place.suffix == ".jsonl":
            found.append(_transcripts(place))
        elif place.suffix == ".parquet" or place.is_file():
            found.append(_read_answers(place))
        else:
            files = sorted(file for file in place.rglob("*.parquet") if not file.name.startswith("."))
            if not files:
                raise PipelineError("no evaluation here", where=str(place), fix="run `dvc repro`, which makes it")
            found += map(_read_answers, files)
    twice = [name for name, times in Counter(answers.name for answers in found).items() if times > 1]
    if twice:
        raise PipelineError(f"two files are called {twice[0]}", fix="name each file once, or judge one after the other")
    return found


def _read_answers(file: Path) -> Answers:
    table = read_table(file, EVALUATION)
    policy = read_metadata(file).get("card", {}).get("policy", file.parent.name)
    rows = table.select(["question_id", "question", "answers", "prediction"]).to_pylist()
    return Answers(f"{policy}/{file.stem}", [row["question_id"] for row in rows], [case_of(row) for row in rows])


def _transcripts(file: Path) -> Answers:
    cases = []
    for number, row in enumerate(read_transcripts(file), 1):
        if not row.question:
            raise PipelineError("'question' is missing, or no text", where=f"{file}, transcript {number}")
        texts = [row.question, *row.golds, (row.prediction or "").strip()]
        question, *golds, prediction = [text.encode("utf-8", "replace").decode() for text in texts]
        cases.append(JudgeCase(question, tuple(golds), prediction))
    return Answers(file.stem, [str(number) for number in range(1, len(cases) + 1)], cases)


def ask_for(
    server: ChatServer, recorded: JudgeRecord, template: str, cases: Sequence[JudgeCase], max_tokens: int
) -> list[str]:
    """Ask the judge about each of ``cases`` and record the replies. Return one reason per failure."""

    def one(case: JudgeCase) -> None:
        messages = [{"role": "user", "content": ask(template, case)}]
        recorded.add(case, server.complete(messages, max_tokens=max_tokens))

    failed = []
    with Paced("judge", unit="answers") as paced:
        paced.told(0, len(cases))
        for number, (_, result) in enumerate(server.each(one, cases), start=1):
            paced.told(number, len(cases))
            if isinstance(result, RequestFailed):
                failed.append(str(result))
    return failed


def verdict_table(answers: Answers, verdicts: Sequence[Judgement]) -> pa.Table:
    """Return ``VERDICTS`` of one file's answers."""
    rows = [
        {
            "question_id": question_id,
            "question": case.question,
            "answers": list(case.golds),
            "prediction": case.prediction,
            "state": verdict.state,
            "right": verdict.right,
            "reply": verdict.reply and verdict.reply.text,
            "prompt_tokens": verdict.reply and verdict.reply.prompt_tokens,
            "completion_tokens": verdict.reply and verdict.reply.completion_tokens,
        }
        for question_id, case, verdict in zip(answers.ids, answers.cases, verdicts, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=VERDICTS)


def run(options: argparse.Namespace) -> None:
    """Run the command. Raises ``PipelineError`` at its end if verdicts are missing."""
    params = contract.load_or_shipped(options.params)
    settings = params.judge
    if not settings.server:
        raise PipelineError(
            "no judge", where=f"{options.params}, judge.server", fix="give an OpenAI-compatible server and its model"
        )
    template = load_template(settings.prompt)
    found = find(options.places or evaluation_folders(params, options.evaluation, options.benchmark_evaluation))
    recorded = JudgeRecord(options.record, settings.model, template)
    asked = list(dict.fromkeys(case for answers in found for case in answers.cases if case.prediction))
    todo = [case for case in asked if case not in recorded]
    known = len(asked) - len(todo)
    _show_on_stderr(
        f"judge {settings.model}: {len(asked)} different answers, {known} on record ({_percent(known, len(asked))})"
    )
    reasons = _judge_missing(settings, recorded, template, todo) if todo else []
    figures = {}
    for answers in found:
        verdicts = recorded.verdicts(answers.cases)
        figures[answers.name] = {"n": len(verdicts), **judged_figures(verdicts)}
        write_table(
            options.out / f"{answers.name}.parquet",
            verdict_table(answers, verdicts),
            {"judge": settings.model, "prompt_sha256": recorded.prompt_sha256},
        )
    show_lines(json_text(figures) if options.json else text_table(figures, width=terminal_width()))
    if reasons:
        causes = Counter(reasons).most_common()
        more = f" (and {len(causes) - 1} other causes)" if len(causes) > 1 else ""
        raise PipelineError(
            f"{len(reasons)} of {len(asked)} answers were not judged; {causes[0][1]} of them: {causes[0][0]}{more}",
            fix="run the same command again: it requests only the missing ones",
        )


def _judge_missing(
    settings: contract.Judge, recorded: JudgeRecord, template: str, todo: Sequence[JudgeCase]
) -> list[str]:
    with ChatServer(settings, where="judge") as server:
        try:
            return ask_for(server, recorded, template, todo, settings.max_tokens)
        finally:
            _show_on_stderr(usage_line(server.usage, settings))


def usage_line(usage: TokenUsage, settings: contract.ChatEndpoint) -> str:
    """Return usage and cost in one line."""
    line = f"{usage.replies} replies, {usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens"
    if usage.uncounted:
        line += f" (besides {usage.uncounted} replies that did not say)"
    if settings.price_prompt or settings.price_completion:
        line += f", cost {usage.cost(settings):.4f}"
    return line


def text_table(figures: Mapping[str, Mapping[str, Any]], *, width: int | None = None) -> str:
    """Return one line per file: judged accuracy in percent with its interval, and the counts behind it."""
    rows = [["answers", "n", "ACC_L", "95 %", "verdicts", "unparsable", "missing"]]
    for name, row in figures.items():
        shares = ["-", "-"]
        if "acc_l" in row:
            low, high = row["acc_l_ci"]
            shares = [f"{100 * row['acc_l']:.1f}", f"{100 * low:.1f}–{100 * high:.1f}"]
        counts = [str(row.get(key, "-")) for key in ("acc_l_n", "acc_l_unparsable", "acc_l_missing")]
        rows.append([name, str(row["n"]), *shares, *counts])
    return tables.text(rows, width=width)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none to ask"


def _show_on_stderr(line: str) -> None:
    show(line, file=sys.stderr)
