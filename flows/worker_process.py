"""A worker's process: ``python -m flows.worker_process FD`` on a socket that the flow holds the other end of.

It makes one object and calls its methods as they are asked for, one after another. Where the flow is gone, however
it ended, the socket says so, and this process ends with all that it started: nothing is left behind.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any


def build(target: str, settings: object) -> Any:
    """``module:name`` called with ``settings``: the object that does the work."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(settings)


def portable(error: BaseException) -> BaseException:
    """An error that can be sent: with the traceback as a note, because a traceback itself cannot be."""
    error.add_note("in the worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an exception of somebody's does when it is pickled
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


def main(arguments: Sequence[str]) -> None:
    """Pin the process, then answer requests ``(method, args, kwargs)`` until one is None."""
    connection = Connection(int(arguments[0]))
    requests: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    target, settings, cores = requests.get()
    if cores:
        os.sched_setaffinity(0, cores)  # before torch counts them
    worker: Any = None
    while (request := requests.get()) is not None:
        method, args, kwargs = request
        try:
            if worker is None:
                worker = build(target, settings)
            reply = (True, getattr(worker, method)(*args, **kwargs))
        except Exception as error:  # whatever it is, it is the flow's to judge
            reply = (False, portable(error))
        connection.send(reply)


if __name__ == "__main__":
    main(sys.argv[1:])
