"""The rows of a file that cannot be used: all of them at the end, or left out and counted."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from r1_searcher.errors import PipelineError

OnBadRow = Literal["stop", "skip"]
_SHOWN = 5  # faults in a message


class Faults:
    """``PipelineError`` of rows, collected; ``raised`` turns them into one."""

    def __init__(self, where: str, on_bad_row: OnBadRow) -> None:
        self.where, self.skips = where, on_bad_row == "skip"
        self.number = 0
        self.first: list[str] = []  # "line 3: …", without the file's name
        self._kinds: Counter[str] = Counter()
        self._only: PipelineError | None = None

    def add(self, fault: PipelineError) -> str:
        """Count the fault of a row; what it says, without the file's name."""
        said = str(fault).removeprefix(self.where).lstrip(", ")
        self.number += 1
        self._only = fault if self.number == 1 else None
        self._kinds[fault.what] += 1
        if len(self.first) < _SHOWN:
            self.first.append(said)
        return said

    def check(self, parameter: str | None = None) -> None:
        """``PipelineError`` if there was a fault and bad rows are not left out. ``parameter``: what leaves them out."""
        if self.skips or not self.number:
            return
        if self._only is not None:
            raise self._only
        more = self.number - len(self.first)
        raise PipelineError(
            f"{self.number:,} rows cannot be used: {'; '.join(self.first)}" + (f"; and {more:,} more" if more else ""),
            where=self.where,
            fix="mend them" if parameter is None else f"mend them, or leave them out with {parameter}: skip",
        )
