"""Collect a file's unusable rows: raise them all at the end, or skip and count them."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from r1_searcher.errors import PipelineError

OnBadRow = Literal["stop", "skip"]
_SHOWN = 5  # faults per message


class Faults:
    """Collected ``PipelineError``s of rows; ``raised`` turns them into one."""

    def __init__(self, where: str, on_bad_row: OnBadRow) -> None:
        self.where, self.skips = where, on_bad_row == "skip"
        self.number = 0
        self.first: list[str] = []  # "line 3: …", without the file's name
        self._kinds: Counter[str] = Counter()
        self._only: PipelineError | None = None

    def add(self, fault: PipelineError) -> str:
        """Count a row's fault; returns its message without the file's name."""
        said = str(fault).removeprefix(self.where).lstrip(", ")
        self.number += 1
        self._only = fault if self.number == 1 else None
        self._kinds[fault.what] += 1
        if len(self.first) < _SHOWN:
            self.first.append(said)
        return said

    def check(self, parameter: str | None = None) -> None:
        """Return the ``PipelineError`` of all faults, unless there are none or bad rows are skipped. ``parameter``: the
        one that skips them."""
        if self.skips or not self.number:
            return
        if self._only is not None:
            raise self._only
        more = self.number - len(self.first)
        raise PipelineError(
            f"{self.number:,} rows cannot be used: {'; '.join(self.first)}" + (f"; and {more:,} more" if more else ""),
            where=self.where,
            fix="correct them" if parameter is None else f"correct them, or leave them out with {parameter}: skip",
        )
