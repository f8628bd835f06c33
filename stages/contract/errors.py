"""Errors that a user can act on, and the one way in which a command ends because of them."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator


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


def printable(text: str) -> str:
    """Text from outside for a terminal, a log or a table: what is no visible character shows as its escape (\\x1b)."""
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


CLOSED_PIPE = 141  # what a shell shows for a process that SIGPIPE ended


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """Make a ``main`` that raises into one that returns an exit status: its own where it returns one, else 0.

    ``PipelineError`` becomes one line on stderr and its status (2; 4 where a comparison is refused), a full disk
    one line and 2; Ctrl-C becomes 130. SIGTERM ends the process as ever, but with a line that says how to go on. A
    reader of the output that has seen enough (``| head``) ends the command without a word, with 141.
    Anything else is a bug of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args: object, **kwargs: object) -> int:
        try:
            with _farewell():
                status = main(*args, **kwargs)
            sys.stdout.flush()  # here, where a closed pipe can still be met
        except PipelineError as error:
            print(f"{'refused' if isinstance(error, Refused) else 'error'}: {error}", file=sys.stderr)
            return error.status
        except BrokenPipeError:
            if not _output_is_closed():
                raise  # another pipe or a socket
            return CLOSED_PIPE
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            place = f"{error.filename}: " if error.filename else ""
            print(
                f"error: {place}the disk is full (free some space and run the same command again; "
                "what was finished before is kept)",
                file=sys.stderr,
            )
            return 2
        except KeyboardInterrupt:
            print("stopped; run the same command again to go on from here", file=sys.stderr)
            return 130
        return status or 0

    return run


@contextlib.contextmanager
def _farewell() -> Iterator[None]:
    """Let SIGTERM say a line before it ends the process, as it does anyway; where nobody else has taken it over."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not ours:
        yield
        return

    def end(number: int, _: object) -> None:
        os.write(2, b"stopped by SIGTERM; run the same command again to go on from here\n")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
