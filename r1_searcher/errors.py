"""Errors that a user can act on, and the one way in which a command ends because of them."""

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
    """Something the user can mend. Prints as one line: what is wrong, where, and what to do.

    ``what`` names the fault, ``where`` the file, line or parameter, ``fix`` the remedy.
    """

    status = 2  # of a command that ends because of it

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        line = what if where is None else f"{where}: {what}"
        super().__init__(printable(line if fix is None else f"{line} ({fix})"))


class Refused(PipelineError):
    """Things that must not be compared, or a baseline that cannot be read: there is no verdict, and so not "worse"."""

    status = 4


CLOSED_PIPE = 141  # what a shell shows for a process that SIGPIPE ended


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """Make a ``main`` that raises into one that returns an exit status: its own where it returns one, else 0.

    ``PipelineError`` becomes one line on stderr and its status (2; 4 where a comparison is refused); a disk that is
    full or read-only, and a file that this user may not use, one line and 2; Ctrl-C becomes 130. SIGTERM ends the
    process as ever, but with a line that says how to go on. A reader of the output that has seen enough (``| head``)
    ends the command without a word, with 141.
    Anything else is a bug of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args: object, **kwargs: object) -> int:
        try:
            with _farewell():
                status = main(*args, **kwargs)
            sys.stdout.flush()  # here, where a closed pipe can still be met
        except PipelineError as error:
            show(f"{'refused' if isinstance(error, Refused) else 'error'}: {error}", file=sys.stderr)
            return error.status
        except BrokenPipeError:
            if not _output_is_closed():
                raise  # another pipe or a socket
            return CLOSED_PIPE
        except OSError as error:
            if (said := _mendable(error)) is None:
                raise
            show(f"error: {said}", file=sys.stderr)
            return PipelineError.status
        except KeyboardInterrupt:
            show("stopped; run the same command again to go on from here", file=sys.stderr)
            return 130
        return status or 0

    return run


def _mendable(error: OSError) -> PipelineError | None:
    """What the user can do about an error of the system; None: nothing, or it does not say about which file."""
    where = _file_of(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "free some space and run the same command again; what was finished before is kept"
        return PipelineError("the disk is full", where=where, fix=fix)
    if where is None:
        return None
    if error.errno == errno.EROFS:
        fix = "mount it writable and run the same command again; what was finished before is kept"
        return PipelineError("the file system is read-only", where=where, fix=fix)
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = "change its owner with chown or its permissions with chmod, and run the same command again"
        return PipelineError(f"permission denied{_whose(Path(where))}", where=where, fix=fix)
    return None


def _file_of(error: OSError) -> str | None:
    """The file that an error is about. Of two (a rename) the one whose folder cannot be written."""
    names = [
        os.fsdecode(one) for one in (error.filename, error.filename2) if isinstance(one, str | bytes | os.PathLike)
    ]
    closed = [one for one in names if not os.access(Path(one).parent, os.W_OK | os.X_OK)]
    return next(iter(closed + names), None)


def _whose(path: Path) -> str:
    """To whom a file belongs, and who asks; of the nearest folder above it where it is not there, or not to be seen."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            found = place.stat()
            which = "it" if place == path else str(place)
            mode = stat.filemode(found.st_mode)
            return f": {which} belongs to {_name(found.st_uid)} with mode {mode}, and this is {_name(os.geteuid())}"
    return ""


def _name(user: int) -> str:
    """Of a user; the number where the system has none, as in some containers."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


@contextlib.contextmanager
def _farewell() -> Iterator[None]:
    """Let SIGTERM say a line before it ends the process, as it does anyway; where nobody else has taken it over.

    What the process started in its own group ends with it, as with Ctrl-C: a stage must not go on below a command that
    is gone."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not ours:
        yield
        return

    def end(number: int, _: object) -> None:
        os.write(2, b"stopped by SIGTERM; run the same command again to go on from here\n")
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
    """The processes below this one that are in its group; others lead a life of their own (a server, workers)."""
    import psutil

    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(OSError):
                if os.getpgid(child.pid) == os.getpgrp():
                    found.append(child.pid)
    return found


def _output_is_closed() -> bool:
    """Whether nobody reads stdout any more. If so it is sent nowhere: Python would try once more at its end."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # not a file at all
        return False
    poll = select.poll()
    poll.register(output, 0)  # errors are reported unasked
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)
    return closed
