"""Errors that a user can act on, and the one way in which a command ends because of them."""

from __future__ import annotations

import errno
import functools
import sys
from collections.abc import Callable


class PipelineError(Exception):
    """Something the user can mend. Prints as one line: what is wrong, where, and what to do.

    ``what`` names the fault, ``where`` the file, line or parameter, ``fix`` the remedy.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        line = what if where is None else f"{where}: {what}"
        super().__init__(line if fix is None else f"{line} ({fix})")


def command(main: Callable[..., None]) -> Callable[..., int]:
    """Make a ``main`` that raises into one that returns an exit status.

    ``PipelineError`` and a full disk become one line on stderr and status 2; Ctrl-C becomes 130.
    Anything else is a bug of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args: object, **kwargs: object) -> int:
        try:
            main(*args, **kwargs)
        except PipelineError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
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
        return 0

    return run
