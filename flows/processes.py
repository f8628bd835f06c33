"""End processes that a flow starts, together with their descendants."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import psutil

_GRACE_SECONDS = 20.0  # after SIGINT; then they are killed


def end_group(process: subprocess.Popen[Any], grace: float = _GRACE_SECONDS + 5) -> None:
    """End the session led by ``process`` with SIGINT, then SIGKILL. Ctrl-C again shortens the wait.

    Its children get SIGINT first: a worker that is told to end kills its flow runs before they can report that they
    ended.
    """
    with contextlib.suppress(psutil.NoSuchProcess, KeyboardInterrupt):
        children = psutil.Process(process.pid).children() if process.poll() is None else []
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGINT)
        _wait_for_ends(children, time.monotonic() + grace)
    for way, seconds in ((signal.SIGINT, grace), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, way)
        except ProcessLookupError:
            break
        with contextlib.suppress(KeyboardInterrupt):
            _wait_for_group(process, seconds)
    process.wait()


def _wait_for_ends(processes: Sequence[psutil.Process], end: float) -> None:
    """Wait until all have ended. One that ended counts even if its parent has not reaped it, which psutil would wait
    for."""
    while any(_runs(process) for process in processes) and time.monotonic() < end:
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait_for_group(process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        process.poll()  # reaps the leader
        if not has_members(process.pid):
            return
        time.sleep(0.1)


def has_members(group: int) -> bool:
    """Return whether a process of the group runs.

    One that ended does not count, even if nobody has reaped it: in many containers nobody ever reaps an orphan.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return any(_group_of(process) == group and _runs(process) for process in psutil.process_iter())
    return False


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def end_tree(process: subprocess.Popen[Any], grace: float = _GRACE_SECONDS) -> None:
    """End ``process`` and all its descendants with SIGINT, then SIGKILL. Does nothing if it has ended.

    For a child that stays in our group, so that ending the group ends it too.
    """
    if process.poll() is not None:
        return
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    for member in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGINT)
    end = time.monotonic() + grace
    try:
        process.wait(grace)  # by us: if psutil waits for a child of ours, its status is lost
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _wait_for_ends(below, end)
    left = [member for member in below if _runs(member)]
    for member in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    _wait_for_ends(left, time.monotonic() + 5.0)
