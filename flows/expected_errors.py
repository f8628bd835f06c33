"""Log errors that a user can act on as one line, once; Prefect would log their tracebacks."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from types import TracebackType

from r1_searcher.errors import PipelineError
from r1_searcher.shown import printable

OURS_TO_RUN = "PREFECT__FLOW_RUN_ID"  # in the environment of a process that a worker started for a run
LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class OneLine(logging.Filter):
    """Reduces a logged ``PipelineError`` to its line, and drops it if logged again. Everything else, above all bugs, is
    unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self._said: weakref.WeakSet[BaseException] = weakref.WeakSet()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record, after changing it."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if not isinstance(error, PipelineError):
            return True
        if error in self._said:
            return False
        self._said.add(error)
        record.msg, record.args = printable(f"error: {error}"), ()
        record.exc_info = record.exc_text = None
        return True


def log_expected_errors_in_one_line() -> None:
    """Install the filter in this process; modules that define flows call it on import.

    In a worker's process for a run Ctrl-C is expected too: the run's state records it, and the terminal gets no
    traceback.
    """
    one = OneLine()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(there, OneLine) for there in logger.filters):
            logger.addFilter(one)
    if OURS_TO_RUN in os.environ and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _all_but_interrupts


def _all_but_interrupts(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
