"""A judge's recorded replies: JSON lines, each under the sha256 of everything that was asked.

A line is appended in one write as soon as its reply arrives, so that a killed run loses none; a truncated last line is
dropped. Lines are never changed: the file only grows, may be kept in git, and two files can be joined by ``cat``.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.chat.chat_server import Reply
from r1_searcher.errors import PipelineError
from r1_searcher.judging.judge import JudgeCase, Judgement, case_of, judged_figures, key_of, load_template, read_verdict
from r1_searcher.params import Judge
from r1_searcher.protocol_card import text_sha256
from r1_searcher.texts import parse_json

Judged = Callable[[pa.Table], dict[str, Any]]  # an evaluation's figures of judged accuracy


class JudgeRecord:
    """The replies in ``path`` to one judge ``model`` with one prompt ``template``; threads may share it."""

    def __init__(self, path: Path, model: str, template: str) -> None:
        self.path, self.model, self.prompt_sha256 = path, model, text_sha256(template)
        self._replies: dict[str, Reply] = {}
        self._lock = threading.Lock()
        for number, line in enumerate(_whole_lines(path), 1):
            key, reply = _entry(line, f"{path}, line {number}")
            self._replies.setdefault(key, reply)  # the first counts, whoever appended another

    def __contains__(self, case: JudgeCase) -> bool:
        return self._key(case) in self._replies

    def _key(self, case: JudgeCase) -> str:
        return key_of(self.model, self.prompt_sha256, case)

    def verdicts(self, cases: Sequence[JudgeCase]) -> list[Judgement]:
        """Return each case's verdict as far as replies are recorded."""
        return [read_verdict(case, self._replies.get(self._key(case))) for case in cases]

    def add(self, case: JudgeCase, reply: Reply) -> None:
        """Append the judge's reply to a case."""
        line = {
            "key": self._key(case),
            "judge": self.model,
            "prompt_sha256": self.prompt_sha256,
            "question": case.question,
            "golds": list(case.golds),
            "prediction": case.prediction,
            "reply": reply.text,
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        with self._lock:
            _append(self.path, json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._replies.setdefault(self._key(case), reply)


def judged_by(settings: Judge, record: Path) -> Judged | None:
    """Return the judged figures of an evaluation (schema EVALUATION), from the record only.

    None if there is no judge; no figures if nothing of it is recorded.
    """
    if not settings.server:
        return None
    recorded = JudgeRecord(record, settings.model, load_template(settings.prompt))
    name = f"{settings.model}, prompt {recorded.prompt_sha256[:8]}"

    def judged(table: pa.Table) -> dict[str, Any]:
        rows = table.select(["question", "answers", "prediction"]).to_pylist()
        figures = judged_figures(recorded.verdicts([case_of(row) for row in rows]))
        return {**figures, "acc_l_judge": name} if figures else {}

    return judged


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # another process may be judging too
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":  # a truncated line
            os.ftruncate(file, path.read_bytes().rfind(b"\n") + 1)
        while line:  # more than one write only if the disk is full: then the next one raises
            line = line[os.write(file, line) :]
    finally:
        os.close(file)


def _whole_lines(path: Path) -> list[bytes]:
    """Return complete lines; text after the last line end was cut off."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _entry(line: bytes, where: str) -> tuple[str, Reply]:
    """Return key and reply of a line, whose key must match its contents."""
    again = "remove the line: it will be asked again"
    try:
        fields = parse_json(line)
        case = JudgeCase(fields["question"], tuple(fields["golds"]), fields["prediction"])
        asked = fields["judge"], fields["prompt_sha256"], case
        own = [key_of(*asked), key_of(*asked, as_it_stands=True)]  # the second matches no case but is not an error
        tokens = int(fields["prompt_tokens"]), int(fields["completion_tokens"])
        key, reply = fields["key"], Reply(str(fields["reply"]), fields["finish_reason"], *tokens)
    except (ValueError, KeyError, TypeError):
        raise PipelineError("is not a recorded reply", where=where, fix=again) from None
    if key not in own:
        raise PipelineError("does not match its key; was it edited?", where=where, fix=again)
    return str(key), reply
