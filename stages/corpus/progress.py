"""How far a large corpus is: a bar on a terminal, else a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

from stages.contract.shown import show

SECONDS_A_LINE = 10.0
_ROWS_A_LOOK = 1000


class Progress:
    """Counts passages (``watch``) and bytes of input (``add_bytes``) of ``total_bytes``; speaks on ``out``."""

    def __init__(self, total_bytes: int, out: TextIO | None = None) -> None:
        self._total = max(1, total_bytes)
        self._out = sys.stderr if out is None else out
        self._bytes = self._passages = 0
        self._began = self._said = time.monotonic()
        self._bar = None
        if self._out.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, unit="B", unit_scale=True, desc="corpus", file=self._out)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def add_bytes(self, number: int) -> None:
        """So many more bytes of the input files were read."""
        self._bytes += number
        if self._bar is not None:
            self._bar.update(number)

    def watch(self, rows: Iterator[dict[str, str]]) -> Iterator[dict[str, str]]:
        """The same rows, counted."""
        for row in rows:
            self._passages += 1
            if self._passages % _ROWS_A_LOOK == 0:
                self._look()
            yield row

    def _look(self) -> None:
        now = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._passages:,} passages", refresh=False)
        elif now - self._said >= SECONDS_A_LINE:
            self._said = now
            speed = self._passages / (now - self._began)
            share = min(1.0, self._bytes / self._total)
            show(
                f"corpus: {self._passages:,} passages, {speed:,.0f} a second, {share:.0%} of the input",
                file=self._out,
            )
