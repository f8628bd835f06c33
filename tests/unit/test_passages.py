"""A corpus' passages, one file or parts: one reader, one writer, one fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, passages
from r1_searcher.types import schemas


def rows(number: int) -> Iterator[dict[str, str]]:
    for place in range(number):
        yield {"passage_id": f"p{place}", "title": f"Title {place}", "text": f"Text {place}.", "source": "test"}


def made(folder: Path, number: int, rows_a_part: int) -> Path:
    folder.mkdir()
    assert passages.write(folder, rows(number), rows_a_part) == number
    return folder


@pytest.mark.parametrize(
    ("number", "rows_a_part", "files"),
    [
        (5, 10, ["passages.parquet"]),
        (10, 10, ["passages.parquet"]),
        (11, 10, ["passages/manifest.json", "passages/part-00000.parquet", "passages/part-00001.parquet"]),
        (0, 10, []),
    ],
)
def test_one_file_or_parts(tmp_path: Path, number: int, rows_a_part: int, files: list[str]) -> None:
    folder = made(tmp_path / "corpus", number, rows_a_part)
    found = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    assert found == files
    if number:
        table = passages.read(folder)
        assert table.schema.equals(schemas.PASSAGES)
        assert table.to_pylist() == list(rows(number))
        assert passages.count(folder) == number
        cut = [batch.to_pylist() for batch in passages.batches(folder, rows=3)]
        assert [row for batch in cut for row in batch] == list(rows(number))
        assert max(map(len, cut)) <= 3


def test_many_groups_in_many_parts(tmp_path: Path) -> None:
    number = 2 * passages.ROWS_A_GROUP + 5
    folder = made(tmp_path / "corpus", number, passages.ROWS_A_GROUP + 1)
    assert [pq.ParquetFile(path).num_row_groups for path in passages.parts(folder)] == [2, 2, 1]
    ids = [value for batch in passages.batches(folder, ["passage_id"]) for value in batch["passage_id"].to_pylist()]
    assert ids == [f"p{place}" for place in range(number)]


def test_columns_come_in_the_order_asked(tmp_path: Path) -> None:
    folder = made(tmp_path / "corpus", 2, 10)
    [batch] = passages.batches(folder, ["text", "title"])
    assert batch.schema.names == ["text", "title"]
    assert batch.to_pylist()[0] == {"text": "Text 0.", "title": "Title 0"}


def test_one_files_fingerprint_is_its_sha256(tmp_path: Path) -> None:
    folder = made(tmp_path / "corpus", 3, 10)
    wanted = artefacts.sha256_file(folder / "passages.parquet")
    assert passages.fingerprint(folder) == passages.fingerprint(folder / "passages.parquet") == wanted


def test_parts_fingerprint_is_of_names_and_bytes(tmp_path: Path) -> None:
    one, two = made(tmp_path / "one", 7, 3), made(tmp_path / "two", 7, 3)
    assert passages.fingerprint(one) == passages.fingerprint(two) == passages.fingerprint(one / "passages")
    assert passages.fingerprint(made(tmp_path / "three", 7, 4)) != passages.fingerprint(one)
    named = passages.fingerprint(one)
    (one / "passages" / "manifest.json").unlink()
    assert passages.fingerprint(one) == named  # then the parts are read


def test_a_part_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "corpus", 7, 3)
    last = folder / "passages" / "part-00002.parquet"
    kept = last.read_bytes()
    last.write_bytes(kept + b"x")
    for reader in (passages.fingerprint, passages.count, passages.read):
        with pytest.raises(PipelineError, match=r"passages: part-00002\.parquet is not what manifest\.json says"):
            reader(folder)
    last.unlink()
    with pytest.raises(PipelineError, match="part-00002"):
        passages.parts(folder)
    last.write_bytes(kept)
    (folder / "passages" / "part-00003.parquet").write_bytes(kept)
    with pytest.raises(PipelineError, match="part-00003"):
        passages.parts(folder)


def test_bad_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"nowhere/passages\.parquet: no such file \(run `dvc repro corpus`"):
        passages.parts(tmp_path / "nowhere")
    folder = made(tmp_path / "corpus", 7, 3)
    artefacts.write_table(folder / "passages.parquet", schemas.PASSAGES.empty_table())
    with pytest.raises(PipelineError, match=r"both passages\.parquet and passages/ are here"):
        passages.parts(folder)
    bad = tmp_path / "bad"
    artefacts.write_table(bad / "passages.parquet", pa.table({"passage_id": ["a"], "title": ["b"]}))
    with pytest.raises(PipelineError, match=r"passages\.parquet: column 'text' is missing"):
        next(passages.batches(bad))
    (bad / "passages.parquet").write_bytes(b"nonsense")
    with pytest.raises(PipelineError, match=r"passages\.parquet: not a Parquet file"):
        next(passages.batches(bad))
    (folder / "passages.parquet").unlink()
    (folder / "passages" / "manifest.json").write_text('{"parts": 3}')
    with pytest.raises(PipelineError, match="not a manifest of passages"):
        passages.parts(folder)


def test_no_more_is_taken_from_the_stream_than_a_part_holds(tmp_path: Path) -> None:
    """A killed writer leaves only whole parts, inside a draft folder that nobody reads."""
    taken = []

    def broken() -> Iterator[dict[str, str]]:
        for row in rows(8):
            taken.append(row)
            if len(taken) == 8:
                raise KeyboardInterrupt
            yield row

    with pytest.raises(KeyboardInterrupt), artefacts.atomic(tmp_path / "corpus", folder=True) as draft:
        passages.write(draft, broken(), 3)
    assert list(tmp_path.iterdir()) == []
