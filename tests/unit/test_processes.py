"""What flows start ends with everything it started; and `make ui`'s message if it cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from living import UNREAPED, lives

from flows import ui
from flows.processes import end_group, end_tree
from r1_searcher.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]

# Prints its child's process id and waits. Both react to Ctrl-C, whatever the shell ignores for us; with an argument
# neither does.
FAMILY = """
import signal, subprocess, sys, time
child = 'import time; print(flush=True); time.sleep(600)'
signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[1:] else signal.default_int_handler)
child = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def family(*arguments: str, own_session: bool) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=own_session
    )
    assert process.stdout is not None
    with process.stdout as said:
        return process, int(said.readline())


@pytest.mark.slow
@pytest.mark.parametrize("stubborn", [[], ["stubborn"]])
def test_a_group_ends_whole(stubborn: list[str]) -> None:
    process, child = family(*stubborn, own_session=True)
    assert lives(child)
    end_group(process, grace=0.5 if stubborn else 20)
    assert process.returncode == (-9 if stubborn else -2)
    assert not lives(child)


@pytest.mark.slow
@pytest.mark.parametrize("stubborn", [[], ["stubborn"]])
def test_a_tree_ends_whole_and_nothing_else_of_its_group(stubborn: list[str]) -> None:
    process, child = family(*stubborn, own_session=False)
    assert lives(child) and os.getpgid(child) == os.getpgid(0)
    end_tree(process, grace=0.5 if stubborn else 20)
    assert process.returncode == (-9 if stubborn else -2)
    assert not lives(child)


ORPHAN = """
import os, subprocess
from flows.processes import has_members
group = subprocess.Popen("sleep 600 & echo $!; wait", shell=True, start_new_session=True, stdout=subprocess.PIPE)
orphan = int(group.stdout.readline())
assert has_members(group.pid)
group.kill()
group.wait()
assert has_members(group.pid), "the orphan runs"
os.kill(orphan, 9)
while has_members(group.pid):
    pass
os.killpg(group.pid, 0)  # for the kernel the group exists until somebody reaps the orphan
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: the child subreaper")
def test_a_group_has_ended_though_nobody_reaps_its_orphans() -> None:
    """As in a container whose first process reaps nothing: every end took half a minute there."""
    command = [sys.executable, "-c", UNREAPED, sys.executable, "-c", ORPHAN]
    assert subprocess.run(command, check=False, cwd=ROOT, timeout=60).returncode == 0


def test_what_has_ended_is_left_alone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    end_group(process)
    end_tree(process)
    assert process.returncode == 0


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PREFECT_SERVER_API_PORT", str(port))
        assert ui.main([]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"error: 127.0.0.1:{port}: the port cannot be used: Address already in use "
        f"(stop what uses it, or choose another: make ui PREFECT_SERVER_API_PORT={port + 1})"
    ]


def test_a_server_that_ends_by_itself_is_one_line(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(PipelineError, match="the Prefect server ended with status 3"):
        ui.wait_until_there("http://127.0.0.1:1/", {"server": process}, tmp_path / "log")
