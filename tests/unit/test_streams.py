"""Compressed files as streams, and large JSON item by item."""

from __future__ import annotations

import bz2
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.errors import PipelineError
from r1_searcher.files import json_stream, records, streams

TEXT = b'{"title": "A", "text": "a"}\n' * 3000


def packed(suffix: str, data: bytes = TEXT) -> bytes:
    if suffix == ".zst":
        place = pa.BufferOutputStream()
        with pa.CompressedOutputStream(place, "zstd") as out:
            out.write(data)
        return bytes(place.getvalue())
    pack: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, "": bytes}
    return pack[suffix](data)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zst"])
def test_the_same_records_however_compressed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(packed(suffix) + packed(suffix))  # two concatenated streams, as from pbzip2 and split dumps
    told: list[int] = []
    found = list(records.read_records(path, ["title"], on_bytes=told.append))
    assert len(found) == 6000
    assert found[-1].place == f"{path}, line 6000"
    assert sum(told) == path.stat().st_size


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_file_is_one_line(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    data = packed(suffix, bytes(range(256)) * 4000 + b"\n" if damage == "cut" else TEXT)
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else TEXT)
    with (
        pytest.raises(PipelineError, match=r"a\.jsonl\.\w+: cut off or damaged: .* \(fetch the file again\)") as caught,
        streams.opened(path) as stream,
    ):
        stream.read()
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="nowhere: no such file"), streams.opened(tmp_path / "nowhere"):
        pass
    with pytest.raises(PipelineError, match="is a folder"), streams.opened(tmp_path):
        pass
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    with pytest.raises(PipelineError, match="a compressed Parquet file"):
        list(records.read_records(tmp_path / "a.parquet.gz", []))


def items(text: str | bytes) -> list[tuple[str | None, Any]]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(json_stream.read_items(io.BytesIO(data), "a.json"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CHUNKS = st.integers(1, 12)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(JSON, max_size=5), chunk=CHUNKS, indent=st.sampled_from([None, 1]), ascii_=st.booleans())
def test_any_array_in_any_chunks(values: list[Any], chunk: int, indent: int | None, ascii_: bool) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        try:
            data = text.encode()
        except UnicodeEncodeError:  # a lone surrogate
            return
        assert items(b"\xef\xbb\xbf" + data) == [(None, value) for value in values]


@settings(max_examples=40, deadline=None)
@given(values=st.dictionaries(st.text(), JSON, max_size=5), chunk=CHUNKS)
def test_any_object_in_any_chunks(values: dict[str, Any], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        assert items(json.dumps(values, indent=2)) == list(_flat(values))


def _flat(values: dict[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """An array that begins with an object is one of records."""
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ((None, item) for item in value)
        else:
            yield key, value


BROKEN = [
    '[{"a": 1},\n {"b" 2}]',
    '[{"a": 1}\n {"b": 2}]',
    '[{"a": 1},\n\n {"b": [1, 2}]',
    "[1, 2",
    '["a',
    "[1,]",
    "",
    "nonsense",
    '{"a": 1, 2: 3}',
    '{"a": 1\n"b": 2}',
    '{"a"\n 1}',
    "[1] 2",
    '{"a": 1}\n{"b": 2}',
]


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
@pytest.mark.parametrize("text", BROKEN)
def test_broken_json_is_named_by_its_line(monkeypatch: pytest.MonkeyPatch, text: str, chunk: int) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    with pytest.raises(json.JSONDecodeError) as wanted:
        json.loads(text)
    with pytest.raises(PipelineError) as caught:
        items(text)
    line = f"a.json, line {wanted.value.lineno}: not JSON: "
    assert str(caught.value).startswith(line)
    assert " at at " not in str(caught.value)
    if text not in ("", "nonsense", "[1,]", '{"a": 1, 2: 3}'):  # worded, or located, slightly differently
        assert f"at column {wanted.value.colno}" in str(caught.value)


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_bytes_that_are_not_utf8_are_counted_from_the_files_start(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    with pytest.raises(PipelineError, match=r"a\.json: not UTF-8 at byte 8$"):
        items('["é", "'.encode()[:7] + b"\xff" + b'"]')


def test_an_item_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", 100)
    monkeypatch.setattr(json_stream, "LARGEST_ITEM", 1000)
    stream = io.BytesIO(b'[{"a" 1},' + b'{"a": 1},' * 100_000)
    with pytest.raises(PipelineError, match="line 1: not JSON"):
        list(json_stream.read_items(stream, "a.json"))
    assert stream.tell() < 10_000


def test_only_a_chunk_is_held() -> None:
    data = b"[" + b'"0123456789",' * 1_000_000 + b'"end"]'
    stream = io.BytesIO(data)
    found = json_stream.read_items(stream, "a.json")
    next(found)
    assert stream.tell() <= json_stream.CHUNK
