"""Run the parts one after the other, each in a process group of its own with a limit; a part that hangs or crashes ends
only itself.

Processes are forked from one that has imported torch and transformers, which saves seconds per part; CUDA is never
started in that one. Where CUDA does not work in a forked process nevertheless, and for parts that ask for it, a process
is started anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from . import bare
from .figures import Figures, Machine, Report, read_report
from .parts import PARTS, Part

_LEAST, _RESERVE = 5.0, 3.0  # seconds to begin a part with; seconds for the last page
_CANNOT_FORK = 77  # exit status
_OUTPUT = 4000  # characters that are kept of a part's output


def run_parts(
    machine: Machine, parts: Sequence[Part], seconds: float, told: Callable[[Report], None], *, forks: bool = True
) -> None:
    """Run ``parts`` within ``seconds``; ``told`` is called with each part's report when it has ended.

    ``forks``: whether processes may be forked from this one.
    """
    end = time.monotonic() + seconds
    if forks:
        _import_libraries()
    for part in parts:
        left = end - time.monotonic() - _RESERVE
        limit = left if part.rest else min(part.limit(rehearsal=machine.rehearsal), left)
        if why := part.missing():
            told(Report(part.name, part.title, "skipped", f"not installed: {why}"))
        elif left < _LEAST:
            told(Report(part.name, part.title, "not started", "no time left"))
        else:
            status = _run(machine, part, limit, fork=forks and not part.apart)
            if status == _CANNOT_FORK and forks and not part.apart:
                forks = False
                _run(machine, part, min(limit, end - time.monotonic() - _RESERVE), fork=False)
            told(_taken(machine, part.name))


def _taken(machine: Machine, name: str) -> Report:
    """Return an ended part's report with the end of its output, and remove its files."""
    report, log = read_report(machine, name), machine.log(name)
    report.output = log.read_text(encoding="utf-8", errors="replace")[-_OUTPUT:]
    for path in (machine.report(name), log):
        path.unlink()
    return report


def _import_libraries() -> None:
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    import r1_searcher.rollout.engine
    import r1_searcher.update.trainers  # noqa: F401


def _run(machine: Machine, part: Part, limit: float, *, fork: bool) -> int:
    """Run a part in a new process group; return its exit status, negative for a signal."""
    Figures(machine, Report(part.name, part.title), limit)
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _become(machine, part, limit, fork=fork)
    status: int | None = None
    try:
        status = _waited(process, limit)
    finally:
        _kill(process)  # also what the part has left behind
        if status is None:
            os.waitpid(process, 0)
    report = read_report(machine, part.name)
    if report.state == "running":
        why = f"ended at its limit of {limit:.0f} s" if status is None else f"crashed: {_ending(status)}"
        figures = Figures(machine, report, limit)
        figures.end("ended" if status is None else "failed", why)
    return -signal.SIGKILL if status is None else status


def _waited(process: int, limit: float) -> int | None:
    """Return the exit status of a process; None if it still runs after ``limit`` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    return None


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _ending(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _become(machine: Machine, part: Part, limit: float, *, fork: bool) -> None:
    """Be the process of a part; does not return."""
    status = 1
    try:
        os.setsid()
        with machine.log(part.name).open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if fork:
            status = child(machine, part, limit)
        else:
            options = ["--part", part.name, "--seconds", f"{limit:.1f}", "--out", str(machine.out)]
            options += ["--rehearse"] if machine.rehearsal else []
            options += ["--model", machine.model] if machine.model else []
            os.chdir(bare.ROOT)
            os.execv(sys.executable, [sys.executable, *_same_options(), "-m", str(__package__), *options])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _same_options() -> list[str]:
    return ["-S"] if sys.flags.no_site else []


def child(machine: Machine, part: Part, limit: float) -> int:
    """Run a part in this process and write how it ended; return the exit status."""
    figures = Figures(machine, Report(part.name, part.title), limit)
    try:
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()
        if machine.rehearsal:
            torch.set_num_threads(1)
        if machine.device == "cuda":
            try:
                torch.zeros(1, device="cuda")
            except RuntimeError as error:
                figures.end("failed", f"CUDA does not start: {error}")
                return _CANNOT_FORK
        part.function()(figures)
    except ModuleNotFoundError as error:
        traceback.print_exc()
        figures.end("skipped", f"not installed: {error.name}")
    except BaseException as error:
        traceback.print_exc()
        first = next(iter(str(error).splitlines()), "")
        figures.end("failed", f"{type(error).__name__}: {first}"[:400])
    else:
        figures.end("done")
    return 0


def part_named(name: str) -> Part:
    """Return one of ``PARTS``."""
    return next(part for part in PARTS if part.name == name)
