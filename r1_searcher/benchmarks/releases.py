"""Released benchmarks: where each file is published, and its checksum.

The known ones are in r1_searcher/benchmarks/released; a user's file may register more. None of them is part of this
repository. A checksum is that of the copy at the time of writing (2026-11); a file republished under its old address is
refused. The addresses of R1-Searcher's files name a branch, so they may move; the others name a commit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Extension, shipped, wrap_user_errors
from r1_searcher.points import BENCHMARKS


@dataclass(frozen=True)
class Release:
    """One released file of questions. ``contexts``: whether it includes their context paragraphs."""

    name: str  # of the benchmark, in parameters and summaries
    about: str
    file: str
    address: str  # of the folder that contains ``file``
    sha256: str
    num_bytes: int  # of the file: more bytes cannot be this file
    num_questions: int
    licence: str
    contexts: bool = False


def known(extensions: Sequence[str] = ()) -> list[str]:
    """Return the names of all benchmarks, built-in ones first."""
    return list(BENCHMARKS.files(extensions))


def release_of(name: str, extensions: Sequence[str] = ()) -> Release:
    """Return the release called ``name``. Raises ``PipelineError`` for an unknown one, listing the known ones, and for
    an invalid definition by the user."""
    found = BENCHMARKS.find(name, extensions)
    with wrap_user_errors(found.file, f"the benchmark {name!r}"):
        made = found.value(name)
    if not shipped(found.file):
        _check_release(made, name, found)
    release: Release = made
    return release


def _check_release(made: Any, name: str, found: Extension) -> None:
    """Check a user's definition for what fetching takes for granted."""
    fault = None
    if not isinstance(made, Release):
        fault = f"must return a Release, got {made!r:.60}"
    elif "-" in name:  # a stage is named policy-benchmark
        fault = "must have a name without -"
    elif made.name != name:
        fault = f"must give its Release the name that it is called with, not {made.name!r:.60}"
    elif not isinstance(made.sha256, str) or not re.fullmatch("[0-9a-f]{64}", made.sha256):
        fault = f"must have a sha256 of 64 hex digits, got {made.sha256!r:.60}"
    elif not isinstance(made.file, str) or PurePath(made.file).name != made.file or not made.file:
        fault = f"must have the name of a file, no path: {made.file!r:.60}"
    elif not all(isinstance(text, str) for text in (made.about, made.address, made.licence)):
        fault = "must say in strings what it is about, its address and its licence"
    elif not all(isinstance(number, int) and number > 0 for number in (made.num_bytes, made.num_questions)):
        fault = "must have whole numbers of bytes and questions above 0"
    if fault is not None:
        raise PipelineError(f"the benchmark {name!r} {fault}", where=found.place())
