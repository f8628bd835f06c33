"""How commands end: exit statuses, one line an error, and silence where the reader of the output has gone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.contract.errors import CLOSED_PIPE, PipelineError, command

ROOT = Path(__file__).resolve().parents[2]

PRINTS = """
import sys
from stages.contract.errors import command

@command
def main():
    {body}

sys.exit(main())
"""


def raising(error: BaseException) -> int:
    @command
    def main() -> None:
        raise error

    return main()


def test_sigterm_ends_a_command_as_ever_but_for_a_line_that_says_how_to_go_on() -> None:
    body = "print('here', flush=True); import time; time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTS.format(body=body)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert said == "stopped by SIGTERM; run the same command again to go on from here\n"


def test_who_has_taken_sigterm_over_keeps_it() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert command(lambda: int(signal.getsignal(signal.SIGTERM) != signal.SIG_IGN))() == 0
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert command(lambda: int(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL))() == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_status_is_passed_on_and_none_is_0() -> None:
    assert command(lambda: None)() == 0
    assert command(lambda: 1)() == 1


def test_errors_that_the_user_can_mend_are_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(PipelineError("wrong", where="here", fix="mend it")) == 2
    assert capsys.readouterr().err == "error: here: wrong (mend it)\n"
    assert raising(OSError(errno.ENOSPC, "full", "some.file")) == 2
    assert capsys.readouterr().err.startswith("error: some.file: the disk is full")
    assert raising(KeyboardInterrupt()) == 130


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())
    with pytest.raises(PermissionError):
        raising(PermissionError(errno.EACCES, "no"))


def with_a_closed_reader(body: str, **variables: str) -> tuple[int, str]:
    """Status and stderr of a command whose stdout is a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run(
            [sys.executable, "-c", PRINTS.format(body=body)],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    return run.returncode, run.stderr


@pytest.mark.parametrize(
    "body",
    ["print('a short line')", "[print('x' * 1000) for _ in range(1000)]", "print('x' * 3_000_000)"],
    ids=["in the buffer until the end", "many lines", "one long line"],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_quietly(body: str, unbuffered: str) -> None:
    assert with_a_closed_reader(body, PYTHONUNBUFFERED=unbuffered) == (CLOSED_PIPE, "")


def test_another_broken_pipe_is_a_bug() -> None:
    with pytest.raises(BrokenPipeError):
        raising(BrokenPipeError(errno.EPIPE, "a socket"))
    status, said = with_a_closed_reader("raise PermissionError('no')")
    assert status == 1 and "PermissionError: no" in said
