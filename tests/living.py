"""Whether processes live; no test of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil

# Runs a command and becomes the parent of every orphan below it, which it does not reap: as PID 1 of many containers.
UNREAPED = """
import ctypes, os, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
process = subprocess.Popen(sys.argv[1:])
os._exit(os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) & 255)
"""


def lives(pid: int) -> bool:
    """Return whether a process runs. One that ended and that nobody has reaped does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def all_end(pids: Iterable[int], seconds: float = 60.0) -> bool:
    """Return whether all end in time."""
    end, left = time.monotonic() + seconds, list(pids)
    while left := [pid for pid in left if lives(pid)]:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
