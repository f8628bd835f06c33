"""HotpotQA's abstracts: the archive, its lines and the TSV give the same passages."""

from __future__ import annotations

import bz2
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from r1_searcher.corpus.abstracts import read_abstracts
from r1_searcher.corpus.counts import FileCount
from r1_searcher.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
ARTICLES = [
    {"id": "12", "url": "u", "title": "Ann Lee", "text": ["Ann Lee was a pilot.", ' She flew "Ace" home.']},
    {"id": 13, "title": "Text: a Title: of sorts", "text": [" A film.", " It was lost."], "charoffset": [[0, 3]]},
]
WANTED = [
    ("12", "Ann Lee", 'Ann Lee was a pilot. She flew "Ace" home.'),
    ("13", "Text: a Title: of sorts", "A film. It was lost."),
]


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:bz2") as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def read(*paths: Path) -> list[tuple[str, str, str]]:
    return [(row["passage_id"], row["title"], row["text"]) for row in read_abstracts(paths, [])]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_original_archive(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "abstracts.tar.bz2",
        {
            "x/AA/wiki_00.bz2": bz2.compress(lines(ARTICLES[0])),
            "x/README": b"hello",
            "x/AB/wiki_00.bz2": bz2.compress(lines(ARTICLES[1], ARTICLES[0], {"id": 14, "title": "V", "text": []})),
        },
    )
    counts: list[FileCount] = []
    told: list[int] = []
    rows = list(read_abstracts([path], counts, told.append))
    assert [(row["passage_id"], row["title"], row["text"]) for row in rows] == WANTED
    assert {row["source"] for row in rows} == {"abstracts.tar.bz2"}
    skipped = {"not_a_bz2_member": 1, "repeated_article": 1, "empty_text": 1}
    assert counts == [FileCount("abstracts.tar.bz2", "article", 5, 2, 2, skipped)]
    assert counts[0].examples["repeated_article"] == ["x/AB/wiki_00.bz2, line 2: Ann Lee"]
    assert counts[0].examples["not_a_bz2_member"] == ["x/README"]
    assert sum(told) == path.stat().st_size


@pytest.mark.parametrize("name", ["a.jsonl", "wiki_00.bz2", "a.jsonl.gz", "a.tsv"])
def test_the_same_abstracts_from_every_form(tmp_path: Path, name: str) -> None:
    import gzip

    tsv = '\ufeff12\t"Title: Ann Lee Text:  Ann Lee was a pilot.  She flew ""Ace"" home."\n'
    data = {
        "a.jsonl": lines(*ARTICLES),
        "wiki_00.bz2": bz2.compress(lines(*ARTICLES)),
        "a.jsonl.gz": gzip.compress(lines(*ARTICLES)),
        "a.tsv": (tsv + "13\tTitle: Next to Text: of sorts Text:  A film.\n").encode(),
    }[name]
    found = read(write(tmp_path / name, data))
    assert found[0] == WANTED[0]
    if name == "a.tsv":  # a title that contains "Text:" is ambiguous there
        assert found[1] == ("13", "Next to", "of sorts Text: A film.")
    else:
        assert found == WANTED


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.tsv", b"1\tAnn Lee was a pilot.\n", r"a\.tsv, line 1: not of the form 'Title: "),
        ("a.tsv", b"1\tTitle: A\n", r"a\.tsv, line 1: not of the form"),
        ("a.tsv", b"1\tTitle: A Text: b\textra\n", r"a\.tsv, line 1: 3 fields, not 2"),
        ("a.tsv", b"\tTitle: A Text: b\n", r"a\.tsv, line 1: no 'id'"),
        ("a.tsv", b"", r"a\.tsv: no abstract in this file"),
        ("a.tsv", b"1\tTitle: A Text: \n", r"a\.tsv: no abstract in this file"),
        ("a.tsv", b"1\tTitle: \xff Text: b\n", r"a\.tsv, line 1: not UTF-8 at byte 10"),
        ("a.jsonl", b'{"id": 1, "title": "A"}\n', r"line 1: 'text' must be a list of sentences"),
        ("a.jsonl", b'{"title": "A", "text": ["a"]}\n', r"line 1: no 'id'"),
        ("a.jsonl", b'{"id": 1, "text": ["a"]}\n', r"line 1: column 'title' is missing"),
        ("a.jsonl", b'{"id": 1,\n', r"a\.jsonl, line 1: not JSON"),
        ("a.tar.bz2", b"nonsense", r"a\.tar\.bz2: cut off or damaged: "),
        ("a.rar", b"", r"a\.rar: unknown kind of file '\.rar' \(known: \.tar\.bz2"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        read(write(tmp_path / name, data))
    assert "\n" not in str(caught.value)


def test_a_cut_off_archive_and_a_broken_line_in_one(tmp_path: Path) -> None:
    member = bz2.compress(lines(*({"id": n, "title": os.urandom(40).hex(), "text": ["a"]} for n in range(3000))))
    path = archive(tmp_path / "a.tar.bz2", {"wiki_00.bz2": member, "wiki_01.bz2": member})
    whole = path.read_bytes()
    for share in (3, 2):
        with pytest.raises(PipelineError, match=r"a\.tar\.bz2: cut off or damaged"):
            read(write(path, whole[: len(whole) * (share - 1) // share]))
    path = archive(tmp_path / "b.tar.bz2", {"AA/wiki_00.bz2": bz2.compress(lines(ARTICLES[0]) + b"{")})
    with pytest.raises(PipelineError, match=r"b\.tar\.bz2, AA/wiki_00\.bz2, line 2: not JSON"):
        read(path)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {DATA} (set R1SEARCHER_DATA)")
def test_the_releases_sample() -> None:
    rows = read(DATA / "kilt_sample/title_abstract.tsv")
    assert [identity for identity, _, _ in rows[:3]] == ["0", "1", "2"]
    assert rows[0][1] == "Professional Football League of Ukraine"
    assert '(Ukrainian: "Професіональна футбольна ліга України" , ' in rows[0][2]
    assert len(rows) == 100
    assert all(title and text and "  " not in text for _, title, text in rows)
