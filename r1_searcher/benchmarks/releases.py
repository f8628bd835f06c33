"""Released benchmarks: where each file is published, and the checksum that it must have.

Those that are known here stand in r1_searcher/benchmarks/released; a file of the user's own may register more. Nothing
of them is part of this repository. A checksum is that of the copy that was at hand when it was written down (2026-11);
a file that was published anew under its old address is refused. The addresses of R1-Searcher's files name a branch, so
they may move; the others name a commit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Extension, called, shipped
from r1_searcher.points import BENCHMARKS


@dataclass(frozen=True)
class Release:
    """One released file of questions. ``contexts``: whether it holds the paragraphs that they are asked about."""

    name: str  # of the benchmark, in parameters and in summaries
    about: str
    file: str
    address: str  # of the folder that holds ``file``
    sha256: str
    num_bytes: int  # of the file: a place that sends more does not send this file
    num_questions: int
    licence: str
    contexts: bool = False


def known(extensions: Sequence[str] = ()) -> list[str]:
    """The names of all benchmarks, the user's behind those that ship."""
    return list(BENCHMARKS.files(extensions))


def release_of(name: str, extensions: Sequence[str] = ()) -> Release:
    """The release called ``name``; a ``PipelineError`` for an unknown one, which says what is known, and for a user's
    definition that is none."""
    found = BENCHMARKS.find(name, extensions)
    with called(found.file, f"the benchmark {name!r}"):
        made = found.value(name)
    if not shipped(found.file):
        _check(made, name, found)
    release: Release = made
    return release


def _check(made: Any, name: str, found: Extension) -> None:
    """A user's definition: what a fetch takes for granted."""
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
