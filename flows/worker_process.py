"""A worker's process: ``python -m flows.worker_process FD`` on a socket whose other end the flow holds.

It makes one object and calls its methods as requested, one after another. If the flow ends, however it does, the socket
shows it, and this process ends with all that it started. During work a separate thread sends a heartbeat every
``BEAT_SECONDS``, however long the work takes; a process that is stopped, or holds the GIL for minutes, falls silent.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import psutil

BEAT_SECONDS = 2.0
BEAT = "beat"  # the heartbeat message; answers are pairs


def build(target: str, settings: object) -> Any:
    """Return ``module:name`` called with ``settings``: the object that does the work."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(settings)


def portable(error: BaseException) -> BaseException:
    """Return an error that can be sent, with the traceback as a note, because tracebacks cannot be pickled."""
    error.add_note("in the worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # any exception's pickling may fail in any way
        text = RuntimeError(f"{type(error).__name__}: {error}")
        text.__notes__ = error.__notes__
        return text
    return error


def _listen(connection: Connection, requests: queue.Queue[Any]) -> None:
    try:
        while True:
            requests.put(connection.recv())
    except (EOFError, OSError):
        os.killpg(os.getpgrp(), signal.SIGKILL)  # this process leads its session: whatever it started ends too


class Pulse:
    """Sends a heartbeat every ``BEAT_SECONDS`` while this process works, from a separate thread."""

    def __init__(self, beat: Callable[[], None]) -> None:
        """``beat`` sends one; an ``OSError`` of it is ignored."""
        self._beat, self._one_at_a_time = beat, threading.Lock()
        self._works = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def mark_begin(self) -> None:
        """Mark the beginning of a request."""
        self._works.set()

    def mark_end(self) -> None:
        """Mark the end of a request; no beat follows."""
        with self._one_at_a_time:
            self._works.clear()

    def _run(self) -> None:
        while True:
            self._works.wait()
            with self._one_at_a_time, contextlib.suppress(OSError):  # the listener notices that a flow is gone
                if self._works.is_set() and not stopped_below():
                    self._beat()
            time.sleep(BEAT_SECONDS)


def stopped_below() -> bool:
    """Return whether a child process is stopped (an engine may have one of its own)."""
    with contextlib.suppress(psutil.Error):
        return any(child.status() == psutil.STATUS_STOPPED for child in psutil.Process().children(recursive=True))
    return False


def main(arguments: Sequence[str]) -> None:
    """Pin the process, then answer requests ``(method, args, kwargs)`` until one is None."""
    connection = Connection(int(arguments[0]))
    requests: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    target, settings, cores = requests.get()
    if cores:
        os.sched_setaffinity(0, cores)  # before torch counts them
    pulse = Pulse(lambda: connection.send(BEAT))
    worker: Any = None
    while (request := requests.get()) is not None:
        method, args, kwargs = request
        pulse.mark_begin()
        try:
            if worker is None:
                worker = build(target, settings)
            reply = (True, getattr(worker, method)(*args, **kwargs))
        except Exception as error:  # the flow judges every error
            reply = (False, portable(error))
        pulse.mark_end()
        connection.send(reply)


if __name__ == "__main__":
    main(sys.argv[1:])
