"""How far a large corpus is: bytes of its input, and the passages that came of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TextIO

from r1_searcher.progress import Paced

_ROWS_A_LOOK = 1000


class CorpusProgress:
    """Counts passages (``watch``) and bytes of input (``add_bytes``) of ``total_bytes``; speaks on ``out``."""

    def __init__(
        self, total_bytes: int, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total, self._clock = max(1, total_bytes), clock
        self._bytes = self._passages = 0
        self._began = clock()
        self._paced = Paced("corpus", unit="bytes", out=out, clock=clock)

    def __enter__(self) -> CorpusProgress:
        self._paced.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._paced.__exit__(kind, error, trace)

    def add_bytes(self, number: int) -> None:
        """So many more bytes of the input files were read."""
        self._bytes += number

    def watch(self, rows: Iterator[dict[str, str]]) -> Iterator[dict[str, str]]:
        """The same rows, counted."""
        for row in rows:
            self._passages += 1
            if self._passages % _ROWS_A_LOOK == 0:
                self._look()
            yield row

    def _look(self) -> None:
        speed = self._passages / max(self._clock() - self._began, 1e-9)
        note = f"{self._passages:,} passages, {speed:,.0f} a second"
        self._paced.told(min(self._bytes, self._total), self._total, note)
