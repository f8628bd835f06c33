"""Expected errors in Prefect's logs and states: one line; bugs keep their traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1_searcher.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def logged(prefect: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a flow that fails; returns its state's message, and the warnings and errors on its page."""
    import logging

    from prefect import flow, task

    from flows.expected_errors import log_expected_errors_in_one_line

    log_expected_errors_in_one_line()

    def run(error: Exception) -> tuple[str, list[str]]:
        said: list[str] = []

        class Keeps(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.levelno >= logging.WARNING and not record.getMessage().startswith("Finished"):
                    said.append(self.format(record))

        @task
        def fails() -> None:
            raise error

        @flow
        def outer() -> None:
            fails()

        keeps = Keeps()
        loggers = [logging.getLogger(f"prefect.{name}") for name in ("flow_runs", "task_runs")]
        for logger in loggers:
            logger.addHandler(keeps)
        state = outer(return_state=True)
        for logger in loggers:
            logger.removeHandler(keeps)
        return str(state.message), said

    return run


def test_an_expected_error_is_one_line(logged: Any) -> None:
    line = "train@s1-00: the stage failed: error: x.jsonl: no such file (see its lines in the log above)"
    message, said = logged(
        PipelineError(
            "the stage failed: error: x.jsonl: no such file",
            where="train@s1-00",
            fix="see its lines in the log above",
        )
    )
    assert said == [f"error: {line}"]
    assert line in message and "\n" not in message


def test_a_bug_keeps_its_traceback(logged: Any) -> None:
    _, said = logged(ZeroDivisionError("ours"))
    assert len(said) == 2 and all("Traceback (most recent call last)" in one for one in said)


@pytest.mark.parametrize(
    ("raised", "shown"), [("KeyboardInterrupt", ""), ("ZeroDivisionError('ours')", "ZeroDivisionError: ours\n")]
)
def test_a_run_that_is_interrupted_has_no_traceback(raised: str, shown: str) -> None:
    line = f"from flows.expected_errors import *; log_expected_errors_in_one_line(); raise {raised}"
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": "of a worker"}
    done = subprocess.run(
        [sys.executable, "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith(shown) and bool(done.stderr) == bool(shown)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["a", "error: x: no such file", "ERROR: failed to reproduce 's': … exited with 2"], "error: x: no such file"),
        (["a", "refused: other protocol", "ERROR: failed …"], "refused: other protocol"),
        (["Traceback …", "  raise", "torch.OutOfMemoryError: CUDA", "ERROR: failed …"], "torch.OutOfMemoryError: CUDA"),
        (["s1-00 3/16  reward +0.1", "ERROR: failed … exited with -9"], "ERROR: failed … exited with -9"),
        ([], "exit status 7"),
    ],
)
def test_the_reason_is_the_stages_own_line(lines: list[str], why: str) -> None:
    from flows.workspace import reason

    assert reason(lines, 7) == why
