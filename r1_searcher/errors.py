"""Errors that a user can act on, and how a command ends because of them."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pwd
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from r1_searcher.shown import printable, show


class PipelineError(Exception):
    """An error that the user can fix. Prints as one line: what is wrong, where, and what to do.

    ``what`` names the fault, ``where`` the file, line or parameter, ``fix`` the remedy.
    """

    status = 2  # exit status of a command that ends because of it

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        line = what if where is None else f"{where}: {what}"
        super().__init__(printable(line if fix is None else f"{line} ({fix})"))


class Refused(PipelineError):
    """A comparison that must not be made, or an unreadable baseline: there is no verdict, not even "worse"."""

    status = 4


CLOSED_PIPE = 141  # what a shell shows for a process ended by SIGPIPE


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """Turn a ``main`` that raises into one that returns an exit status: its own, if any, else 0.

    ``PipelineError`` becomes one line on stderr and its status (2; 4 for a refused comparison). So do a full or
    read-only disk and missing permissions, with status 2; Ctrl-C becomes 130. SIGTERM ends the process as usual, but
    with a line that says how to continue. If the reader of the output stops (``| head``), the command ends silently
    with 141. Anything else is a bug and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args: object, **kwargs: object) -> int:
        try:
            with _sigterm_message():
                status = main(*args, **kwargs)
            sys.stdout.flush()  # here, where a closed pipe can still be caught
        except PipelineError as error:
            show(f"{'refused' if isinstance(error, Refused) else 'error'}: {error}", file=sys.stderr)
            return error.status
        except BrokenPipeError:
            if not _output_is_closed():
                raise  # another pipe or a socket
            return CLOSED_PIPE
        except OSError as error:
            if (said := _system_error(error)) is None:
                raise
            show(f"error: {said}", file=sys.stderr)
            return PipelineError.status
        except KeyboardInterrupt:
            show("stopped; run the same command again to resume", file=sys.stderr)
            return 130
        return status or 0

    return run


def _system_error(error: OSError) -> PipelineError | None:
    """Return what the user can do about a system error; None if nothing, or if it names no file."""
    where = _file_of(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "free some space and run the same command again; finished work is kept"
        return PipelineError("the disk is full", where=where, fix=fix)
    if where is None:
        return None
    if error.errno == errno.EROFS:
        fix = "mount it writable and run the same command again; finished work is kept"
        return PipelineError("the file system is read-only", where=where, fix=fix)
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = "change its owner with chown or its permissions with chmod, and run the same command again"
        return PipelineError(f"permission denied{_ownership(Path(where))}", where=where, fix=fix)
    return None


def _file_of(error: OSError) -> str | None:
    """Return the file that an error is about. Of two (a rename) the one whose folder is not writable."""
    names = [
        os.fsdecode(one) for one in (error.filename, error.filename2) if isinstance(one, str | bytes | os.PathLike)
    ]
    closed = [one for one in names if not os.access(Path(one).parent, os.W_OK | os.X_OK)]
    return next(iter(closed + names), None)


def _ownership(path: Path) -> str:
    """Return a file's owner and the current user; of the nearest folder above if it is missing or invisible."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            found = place.stat()
            which = "it" if place == path else str(place)
            mode = stat.filemode(found.st_mode)
            return f": {which} belongs to {_name(found.st_uid)} with mode {mode}, and this is {_name(os.geteuid())}"
    return ""


def _name(user: int) -> str:
    """Return a user's name; the number if the system has no name, as in some containers."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


@contextlib.contextmanager
def _sigterm_message() -> Iterator[None]:
    """Print a line at SIGTERM before the process ends, unless another handler is installed.

    Children in its process group end with it, as with Ctrl-C: no stage must outlive its command.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not ours:
        yield
        return

    def end(number: int, _: object) -> None:
        os.write(2, b"stopped by SIGTERM; run the same command again to resume\n")
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _children() -> list[int]:
    """Return the child processes in this one's group; others are independent (a server, workers)."""
    import psutil

    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(OSError):
                if os.getpgid(child.pid) == os.getpgrp():
                    found.append(child.pid)
    return found


def _output_is_closed() -> bool:
    """Return whether stdout is no longer read. If so it is redirected to nowhere: Python would write once more at
    exit."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # not a file at all
        return False
    poll = select.poll()
    poll.register(output, 0)  # errors are always reported
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)
    return closed
