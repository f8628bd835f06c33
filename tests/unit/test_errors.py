"""How commands end: exit statuses, one line per error, and silence if the output's reader has gone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from living import all_end, lives

from r1_searcher.errors import CLOSED_PIPE, PipelineError, command

ROOT = Path(__file__).resolve().parents[2]

PRINTS = """
import sys
from r1_searcher.errors import command

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
    assert said == "stopped by SIGTERM; run the same command again to resume\n"


@pytest.mark.slow
def test_sigterm_ends_what_a_command_started_but_for_what_leads_a_life_of_its_own() -> None:
    body = (
        "import subprocess; below = subprocess.Popen(['sh', '-c', 'sleep 61 & wait']); "
        "apart = subprocess.Popen(['sleep', '62'], start_new_session=True); "
        "print(apart.pid, flush=True); below.wait()"
    )
    command = [sys.executable, "-c", PRINTS.format(body=body)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        apart = psutil.Process(int(process.stdout.readline()))
        try:
            while [one.name() for one in psutil.Process(process.pid).children(recursive=True)].count("sleep") < 2:
                assert process.poll() is None
            below = [one for one in psutil.Process(process.pid).children(recursive=True) if one != apart]
            process.terminate()
            assert process.wait(60) == -signal.SIGTERM
            assert len(below) == 2 and all_end(one.pid for one in below)
            assert lives(apart.pid)
        finally:
            apart.kill()


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


@pytest.mark.parametrize("name", ["data/new", b"data/new", Path("data/new")])
def test_a_read_only_file_system_is_one_line(name: object, capsys: pytest.CaptureFixture[str]) -> None:
    """tests/stages/test_full_disk.py has a real one, where the system allows mounting it."""
    assert raising(OSError(errno.EROFS, os.strerror(errno.EROFS), name)) == 2
    assert capsys.readouterr().err == (
        "error: data/new: the file system is read-only (mount it writable and run the same command again; "
        "finished work is kept)\n"
    )


NOBODY = 65534
DENIED = """
import os
if os.geteuid() == 0:  # who may do all
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
print("began")
{body}
"""


@pytest.mark.parametrize(
    ("body", "file", "whose"),
    [
        ("open('closed/new', 'w')", "closed/new", "closed belongs to"),
        ("os.mkdir('closed/new')", "closed/new", "closed belongs to"),
        ("os.replace('there', 'closed/new')", "closed/new", "closed belongs to"),
        ("open('secret')", "secret", "it belongs to"),
        ("os.chmod('/', 0o755)", "/", "it belongs to root with mode drwx"),
    ],
    ids=["write", "mkdir", "rename", "read", "not the owner"],
)
def test_a_file_that_this_user_may_not_use_is_one_line(tmp_path: Path, body: str, file: str, whose: str) -> None:
    """A real case, for root too, who first becomes another user."""
    tmp_path.chmod(0o777)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    (tmp_path / "there").touch()
    (tmp_path / "secret").touch()
    (tmp_path / "secret").chmod(0)
    script = textwrap.indent(DENIED.format(nobody=NOBODY, body=body), "    ").strip()
    run = subprocess.run(
        [sys.executable, "-c", PRINTS.format(body=script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if run.stdout != "began\n":
        pytest.skip(f"root cannot become another user here: {run.stderr.splitlines()[-1]}")
    [line] = run.stderr.splitlines()
    assert run.returncode == 2
    assert line.startswith(f"error: {file}: permission denied: {whose}")
    assert line.endswith("(change its owner with chown or its permissions with chmod, and run the same command again)")


def test_who_has_no_name_is_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert raising(PermissionError(errno.EACCES, "no", str(tmp_path / "a" / "b"))) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} belongs to " in line and "and this is user 54321 (" in line


def with_a_closed_reader(body: str, **variables: str) -> tuple[int, str]:
    """Return the status and stderr of a command whose stdout is a pipe that nobody reads."""
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
