"""The passages of an index folder, each read from the file when it is a result.

The file is not mapped: mapped pages count as the process' memory, and each passage brings its neighbours along, so that
after some thousand results nearly all texts of two million passages were resident.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import weakref
from bisect import bisect_right
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from r1_searcher.types import schemas
from r1_searcher.types.protocols import Passage

_COLUMNS = ("passage_id", "title", "text")
_ENDS = struct.Struct("<ii")  # of a string in its column's bytes
Places = tuple[tuple[int, int], ...]  # per column: where its ends and its bytes begin in the file


class PassageFile:
    """An Arrow IPC file of PASSAGES, uncompressed, in any number of batches. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open the file and record where the columns of each batch are. Raises ``FileNotFoundError`` and
        ``ValueError``."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._starts, self._batches, self._rows = _places(self._file)
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)  # results are not adjacent

    def __len__(self) -> int:
        return self._rows

    def get(self, row: int, score: float) -> Passage:
        """Return the passage of a row as a result with this score."""
        batch = bisect_right(self._starts, row) - 1
        place = row - self._starts[batch]
        passage_id, title, text = (self._text(place, *column) for column in self._batches[batch])
        return Passage(passage_id, title, text, score)

    def around(self, passage_id: str, before: int, after: int) -> list[Passage]:
        """Return a passage between its neighbours, with scores of 0; empty if no passage has this id.

        Scans the ids from the first on: no table of them stays in memory.
        """
        row = self._row(passage_id)
        if row is None:
            return []
        return [self.get(one, 0.0) for one in range(max(0, row - before), min(self._rows, row + after + 1))]

    def _row(self, passage_id: str) -> int | None:
        place = int(pc.index(_mapped(self._file)[0].column("passage_id"), passage_id).as_py())
        return place if place >= 0 else None

    def _text(self, place: int, ends: int, data: int) -> str:
        first, end = _ENDS.unpack(os.pread(self._file, _ENDS.size, ends + place * (_ENDS.size // 2)))
        return os.pread(self._file, end - first, data + first).decode()


def _mapped(file: int) -> tuple[pa.Table, pa.Buffer]:
    """Return the passages and the whole file, mapped until the last view of them goes."""
    whole = pa.py_buffer(mmap.mmap(file, 0, prot=mmap.PROT_READ))
    return pa.ipc.open_file(pa.BufferReader(whole)).read_all(), whole


def _places(file: int) -> tuple[list[int], list[Places], int]:
    """Return the first row and the column places of each batch that has rows, and the number of all rows."""
    table, whole = _mapped(file)
    if not table.schema.equals(schemas.PASSAGES):
        raise ValueError("not a file of passages")
    batches = table.to_batches()  # without those that are empty
    starts = list(itertools.accumulate((batch.num_rows for batch in batches), initial=0))
    return starts[:-1], [tuple(_place(batch.column(name), whole) for name in _COLUMNS) for batch in batches], starts[-1]


def _place(column: pa.StringArray, whole: pa.Buffer) -> tuple[int, int]:
    _, ends, data = column.buffers()
    start = ends.address - whole.address
    # A column of empty strings has no bytes, and perhaps no buffer.
    text = start if data is None or not data.size else data.address - whole.address
    if column.offset or not (0 <= start < whole.size and 0 <= text < whole.size):
        raise ValueError("its columns cannot be read in place")
    return start, text
