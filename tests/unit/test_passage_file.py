"""Passages read from their file: the same as Arrow reads, without keeping them in this process' memory."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.retrieval.passage_file import PassageFile
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Passage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ROWS = st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=5)


def written(path: Path, batches: list[list[tuple[str, str, str]]], schema: pa.Schema = schemas.PASSAGES) -> Path:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for rows in batches:
            columns = [*map(list, zip(*rows, strict=True))] or [[], [], []]
            writer.write_batch(pa.record_batch([*map(pa.array, columns), ["s"] * len(rows)], schema=schema))
    return path


@given(batches=st.lists(ROWS, max_size=5))
@settings(deadline=None)
def test_each_row_is_what_was_written(batches: list[list[tuple[str, str, str]]], tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    opened = PassageFile(written(tmp_path_factory.mktemp("rows") / "passages.arrow", batches))
    rows = [row for batch in batches for row in batch]
    assert len(opened) == len(rows)
    found = [opened.get(number, 0.5) for number in range(len(rows))]
    assert found == [Passage(*row, 0.5) for row in rows]


def test_many_threads_read_and_nothing_stays_mapped(tmp_path: Path) -> None:
    rows = [(f"p{number}", f"Title {number}", f"{number} é " * (number % 50)) for number in range(5000)]
    path = written(tmp_path / "passages.arrow", [rows[:1], rows[1:3000], [], rows[3000:]])
    opened = PassageFile(path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: opened.get(number, 1.0), range(len(rows))))
    assert found == [Passage(*row, 1.0) for row in rows]
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_the_file_is_closed_with_its_reader(tmp_path: Path) -> None:
    path = written(tmp_path / "passages.arrow", [[("p", "t", "x")]])

    def held() -> int:
        return sum(link.readlink() == path for link in Path("/proc/self/fd").iterdir() if link.is_symlink())

    opened = PassageFile(path)
    assert held() == 1
    del opened
    gc.collect()
    assert held() == 0


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "passages.arrow"
    with pytest.raises(FileNotFoundError):
        PassageFile(path)
    for content in (b"", b"ARROW1 or not"):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            PassageFile(path)
    other = pa.schema([*((name, pa.large_string()) for name in ("passage_id", "title", "text", "source"))])
    written(path, [[("p", "t", "x")]], other)
    with pytest.raises(ValueError, match="not a file of passages"):
        PassageFile(path)
