"""KILT's pages as passages: the rules on hand-made pages, and the release's own passages if present."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.corpus.counts import FileCount
from r1_searcher.corpus.kilt import MARKS, read_kilt, split
from r1_searcher.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
PAGE = {
    "wikipedia_title": "Ann Lee",
    "text": [
        "Ann Lee\n",
        "Ann Lee (1904\u20131990) was a  pilot\u00a0and writer.\n",
        "Section::::Life.\n",
        "She was born in Rome.\n",
        "Section::::Life.:Flights.\n",
        "BULLET::::- To Oslo\n",
        "BULLET::::1. To Bonn\n",
        "What a Section:::: mark is, she never said.\n",
    ],
}
WORDS = (
    "Ann Lee Ann Lee (1904\u20131990) was a pilot and writer. Life. She was born in Rome. Life.:Flights. - To Oslo "
    "1. To Bonn What a Section:::: mark is, she never said."
).split()


def pages(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(*paths: Path, words: int = 100) -> list[dict[str, str]]:
    return list(read_kilt(paths, [], words))


@pytest.mark.parametrize("words", [1, 7, len(WORDS) - 1, len(WORDS), 100])
def test_marks_go_and_words_are_counted(words: int) -> None:
    passages = split(PAGE["text"], words)
    assert " ".join(passages).split(" ") == WORDS
    assert [len(passage.split(" ")) for passage in passages[:-1]] == [words] * (len(passages) - 1)
    assert 1 <= len(passages[-1].split(" ")) <= words


@given(
    paragraphs=st.lists(st.tuples(st.sampled_from(["", *MARKS]), st.text(max_size=30)), max_size=8),
    words=st.integers(1, 5),
)
def test_no_word_is_lost_or_made(paragraphs: list[tuple[str, str]], words: int) -> None:
    passages = split([mark + text for mark, text in paragraphs], words)
    unmarked = [text for mark, text in paragraphs if mark or not text.startswith(MARKS)]
    if len(unmarked) == len(paragraphs):
        assert " ".join(passages).split() == [word for text in unmarked for word in text.split()]
    assert all(0 < len(passage.split()) <= words for passage in passages)


def test_ids_are_the_pages(tmp_path: Path) -> None:
    path = pages(tmp_path / "kilt.json", PAGE | {"wikipedia_id": "12"}, PAGE | {"_id": 7}, PAGE)
    rows = read(path, words=20)
    assert [row["passage_id"] for row in rows] == [
        "12-0",
        "12-1",
        "7-0",
        "7-1",
        "8c129166ff78fe08-0",
        "8c129166ff78fe08-1",
    ]
    assert {row["title"] for row in rows} == {"Ann Lee"}
    assert {row["source"] for row in rows} == {"kilt.json"}
    assert rows[0]["text"] == " ".join(WORDS[:20])


def test_what_is_skipped_is_counted_and_shown(tmp_path: Path) -> None:
    path = pages(
        tmp_path / "kilt.jsonl",
        PAGE,
        {"wikipedia_title": "Bare", "text": ["Bare\n", "\n"]},
        {"wikipedia_title": "Void", "text": []},
        PAGE,
    )
    counts: list[FileCount] = []
    assert len(list(read_kilt([path, pages(tmp_path / "b.jsonl", PAGE | {"_id": "9"}, PAGE)], counts, 10))) == 8
    assert counts[0] == FileCount(
        "kilt.jsonl", "page", 4, 1, 4, {"only_a_title": 1, "empty_text": 1, "repeated_page": 1}
    )
    assert counts[0].examples == {
        "only_a_title": ["line 2: Bare"],
        "empty_text": ["line 3: Void"],
        "repeated_page": ["line 4: Ann Lee"],
    }
    assert counts[1] == FileCount("b.jsonl", "page", 2, 1, 4, {"repeated_page": 1})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"title": "A", "text": ["a"]}, "line 2: column 'wikipedia_title' is missing"),
        ({"wikipedia_title": "A"}, "line 2: 'text' must be a list of paragraphs"),
        ({"wikipedia_title": "A", "text": "a"}, "line 2: 'text' must be a list of paragraphs"),
        ({"wikipedia_title": "A", "text": ["a", 1]}, "line 2: 'text' must be a list of paragraphs"),
        ({"wikipedia_title": "A", "wikipedia_id": 1.5, "text": ["a"]}, "line 2: 'wikipedia_id' must be a string or"),
        (["A"], "line 2: a JSON object is needed"),
    ],
)
def test_another_layout_names_the_line(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        read(pages(tmp_path / "kilt.jsonl", PAGE, row))


def test_faults_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"empty\.jsonl: no passage in this file"):
        read(pages(tmp_path / "empty.jsonl"))
    with pytest.raises(PipelineError, match=r"a\.parquet: no such file"):
        read(tmp_path / "a.parquet")
    with pytest.raises(PipelineError, match=r"nowhere\.json: no such file"):
        read(tmp_path / "nowhere.json")


def test_passages_that_were_cut_before(tmp_path: Path) -> None:
    path = tmp_path / "cut.tsv"
    path.write_text('0\tAnn Lee   Ann Lee was a pilot.\n1\t"Ann ""Ace"" Lee   She   flew."\n2\tVoid    \n1\tB   b\n')
    counts: list[FileCount] = []
    rows = list(read_kilt([path], counts, 100))
    assert [(row["passage_id"], row["title"], row["text"]) for row in rows] == [
        ("0", "Ann Lee", "Ann Lee was a pilot."),
        ("1", 'Ann "Ace" Lee', "She   flew."),
    ]
    assert counts == [FileCount("cut.tsv", "passage", 4, 2, 2, {"empty_text": 1, "repeated_passage": 1})]
    path.write_text("0\tAnn Lee  was a pilot.\n")
    with pytest.raises(PipelineError, match=r"cut\.tsv, line 1: there are not three spaces between title and text"):
        read(path)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {DATA} (set R1SEARCHER_DATA)")
def test_the_releases_own_passages() -> None:
    """99 pages give the sample's 92 whole passages, byte by byte; its last line is truncated in the file."""
    folder = DATA / "kilt_sample"
    made = read(folder / "kilt_knowledgesource_100.jsonl")
    given = read(folder / "kilt_100_words.tsv")
    assert len({row["title"] for row in made}) == 99
    assert len(given) == 93
    for ours, theirs in zip(made, given[:92], strict=False):
        assert (ours["title"], ours["text"]) == (theirs["title"], theirs["text"])
    assert made[92]["title"] == given[92]["title"] == "Allan Dwan"
    assert made[92]["text"].startswith(given[92]["text"])
    assert len(given[92]["text"]) < len("Allan Dwan") * 2
