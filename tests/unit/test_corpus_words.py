"""Long passages are cut by words, which are characters in scripts without spaces; the report has the lengths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher import params, scripts
from r1_searcher.corpus.counts import FileCount
from r1_searcher.corpus.cutting import cut_passages
from r1_searcher.corpus.lengths import passage_lengths
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError
from r1_searcher.files import passages
from stages.corpus.run import run


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One, two  three.", ["One,", "two", "three."]),
        ("黄河很长，水多。", ["黄", "河", "很", "长，", "水", "多。"]),
        ("「橋」は Tokyo に", ["「橋」", "は", "Tokyo", "に"]),
        ("서울은 수도이다.", ["서울은", "수도이다."]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("naïve café", ["naïve", "café"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert scripts.words(text) == words


@given(text=st.text(st.sampled_from("ab é中橋ท่.，  \n한")), most=st.integers(1, 5))
def test_pieces_hold_all_words_in_order(text: str, most: int) -> None:
    pieces = scripts.cut(text, most)
    assert all(len(scripts.words(piece)) == most for piece in pieces[:-1])
    assert len(scripts.words(pieces[-1])) <= most
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_pieces_have_title_number_and_count() -> None:
    rows = [
        {"passage_id": name, "title": "T", "text": text, "source": "f"} for name, text in (("a", "1 2 3"), ("b", "4"))
    ]
    count = FileCount("f", passages=2)
    found = list(cut_passages(iter(rows), 2, [count], SeenIds()))
    assert [(row["passage_id"], row["text"], row["title"]) for row in found] == [
        ("a-0", "1 2", "T"),
        ("a-1", "3", "T"),
        ("b", "4", "T"),
    ]
    assert count.passages == 3
    assert list(cut_passages(iter(rows), 0, [count], SeenIds())) == rows
    taken = SeenIds()
    taken.add("a-1")
    with pytest.raises(PipelineError, match="would have the id 'a-1' of another passage"):
        list(cut_passages(iter(rows), 2, [count], taken))


def test_a_file_of_long_documents_is_cut_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": "long", "title": "Long", "text": " ".join(map(str, range(250)))},
        {"id": "s", "title": "", "text": "x"},
    ]
    Path("docs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = params.shipped().corpus.model_copy(update={"source": "files", "files": ["docs.jsonl"], "words": 100})
    report = run(settings, 0, tmp_path / "corpus")
    assert passages.read(tmp_path / "corpus")["passage_id"].to_pylist() == ["long-0", "long-1", "long-2", "s"]
    assert (report["passages"], report["kept"], report["files"][0]["passages"]) == (4, 2, 4)
    assert report["lengths"]["words"] == {"median": 100, "p90": 100, "p99": 100, "max": 100}
    assert report["lengths"]["measured"] == 4 and report["lengths"]["bytes"]["max"] == 399


def test_a_worlds_passages_are_not_cut() -> None:
    given = params.shipped().corpus.model_dump() | {"words": 5}
    with pytest.raises(ValueError, match="a world's passages are never cut"):
        params.Corpus(**given)


def test_lengths_of_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(["w"] * (number + 1)) for number in range(25)]
    rows = ({"passage_id": str(number), "title": "", "text": text, "source": ""} for number, text in enumerate(texts))
    (tmp_path / "corpus").mkdir()
    passages.write(tmp_path / "corpus", rows, 10)
    batches = passages.batches
    monkeypatch.setattr(passages, "batches", lambda folder, columns: batches(folder, columns, 4))
    found = passage_lengths(tmp_path / "corpus", at_most=9)
    assert found["measured"] == 9 and found["words"] == {"median": 13, "p90": 25, "p99": 25, "max": 25}
