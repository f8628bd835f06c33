"""Corpora in other projects' formats are read correctly, or refused: never misread."""

from __future__ import annotations

import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from documented import is_documented_refusal

from r1_searcher.corpus.counts import FileCount
from r1_searcher.corpus.own_files import read_passages
from r1_searcher.errors import PipelineError
from r1_searcher.files.named import files_of

HARBOUR = {"id": "h", "title": "Grey Harbour", "text": "Grey Harbour is a film of 1931 by Ida Moss."}
MOSS = {"id": "m", "title": "Ida Moss", "text": "Ida Moss was born in Tarn Hill in 1894."}
LINES = "".join(json.dumps(row) + "\n" for row in (HARBOUR, MOSS))

Rows = list[tuple[str, str, str]]
BOTH: Rows = [(row["id"], row["title"], row["text"]) for row in (HARBOUR, MOSS)]


def passages(path: Path, **options: Any) -> Rows:
    rows = list(read_passages([path], [], **options))
    return [(row["passage_id"], row["title"], row["text"]) for row in rows]


def count(path: Path, **options: Any) -> FileCount:
    counts: list[FileCount] = []
    list(read_passages([path], counts, **options))
    return counts[0]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, LINES)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ndjson", LINES),
        ("A.JSONL", LINES),
        ("wiki_00", LINES),
        ("a.txt", LINES),
        ("lines.json", LINES),
        ("array.jsonl", json.dumps([HARBOUR, MOSS])),
        ("wrapped.json", json.dumps({"version": 1, "data": [HARBOUR, MOSS], "end": []})),
        ("plain_name.jsonl", gzip.compress(LINES.encode())),
        ("a.jsonl.xz", lzma.compress(LINES.encode())),
        ("noext", lzma.compress(LINES.encode())),
        ("a.csv", "id,title,text\n" + "".join(f'"{i}","{t}","{x}"\n' for i, t, x in BOTH)),
        ("tabs.csv", "".join(f"{i}\t{t}\t{x}\n" for i, t, x in BOTH)),
        ("dpr.tsv", "id\ttext\ttitle\n" + "".join(f"{i}\t{x}\t{t}\n" for i, t, x in BOTH)),
        ("upper.tsv", "ID\tText\tTitle\n" + "".join(f"{i}\t{x}\t{t}\n" for i, t, x in BOTH)),
        ("dpr_without_header.tsv", "".join(f"{i}\t{x}\t{t}\n" for i, t, x in BOTH)),
        ("without_header.tsv", "".join(f"{i}\t{t}\t{x}\n" for i, t, x in BOTH)),
        ("msmarco-docs.tsv", "".join(f"{i}\thttp://x/{i}\t{t}\t{x}\n" for i, t, x in BOTH)),
        ("contents.jsonl", "".join(json.dumps({"id": i, "contents": f'"{t}"\n{x}'}) + "\n" for i, t, x in BOTH)),
        (
            "beir.jsonl",
            "".join(json.dumps({"_id": i, "title": t, "text": x, "metadata": {}}) + "\n" for i, t, x in BOTH),
        ),
        (
            "v2.jsonl",
            "".join(json.dumps({"docid": "d", "pid": i, "title": t, "passage": x}) + "\n" for i, t, x in BOTH),
        ),
        (
            "title_and_contents.jsonl",
            "".join(json.dumps({"id": i, "title": t, "contents": f'"{t}"\n{x}'}) + "\n" for i, t, x in BOTH),
        ),
    ],
)
def test_the_same_passages_however_they_are_laid_out(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert passages(write(tmp_path / name, content)) == BOTH


def test_a_zip_with_one_file(tmp_path: Path) -> None:
    assert passages(zipped(tmp_path / "wiki.zip", "wiki.jsonl")) == BOTH
    assert passages(zipped(tmp_path / "wiki.jsonl.zip", "__MACOSX/x", "wiki.jsonl")) == BOTH
    with pytest.raises(PipelineError, match=r"two\.zip: a zip with 2 files in it") as caught:
        passages(zipped(tmp_path / "two.zip", "a.jsonl", "b.jsonl"))
    assert is_documented_refusal(str(caught.value).partition(": ")[2])


def test_contents_in_parquet_and_without_a_title(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    rows = [
        {"docid": "1", "contents": '"Grey Harbour"\nA film.\nOf 1931.'},
        {"docid": "2", "contents": "No title here."},
        {"docid": "3", "contents": 'Say "yes"\nA song.'},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert passages(path) == [
        ("1", "Grey Harbour", "A film.\nOf 1931."),
        ("2", "", "No title here."),
        ("3", 'Say "yes"', "A song."),
    ]
    assert count(path).layout == "contents: title, line feed, text"
    assert count(path).columns == {"passage_id": "docid", "text": "contents"}


def test_a_title_that_is_a_columns_name_is_no_header(tmp_path: Path) -> None:
    rows = "1\tBody\tThe body is all of an animal.\n2\tIda Moss\tIda Moss was born in Tarn Hill in 1894.\n"
    assert [title for _, title, _ in passages(write(tmp_path / "part.tsv", rows))] == ["Body", "Ida Moss"]


def test_ids_that_pandas_made_floats(tmp_path: Path) -> None:
    rows = [{"id": one, "title": "T", "text": text} for one, text in ((7.0, "a"), (float("nan"), "b"))]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    (first, _, _), (second, _, _) = passages(path)
    assert first == "7" and len(second) == 16


def test_text_that_parquet_has_as_bytes(tmp_path: Path) -> None:
    columns = {"id": ["1", "2"], "title": ["Ida", "Ö"], "text": ["a", "ü"]}
    kinds = {"id": pa.large_binary(), "title": pa.binary(), "text": pa.string()}
    table = pa.table({name: pa.array(columns[name]).cast(kind) for name, kind in kinds.items()})
    pq.write_table(table, tmp_path / "a.parquet")
    assert passages(tmp_path / "a.parquet") == [("1", "Ida", "a"), ("2", "Ö", "ü")]
    latin = pa.table({"id": ["1"], "text": pa.array(["ü".encode("latin-1")], pa.binary())})
    pq.write_table(latin, tmp_path / "a.parquet")
    with pytest.raises(PipelineError, match=r"row 1: 'text' must be a string, got b'\\xfc'"):
        passages(tmp_path / "a.parquet")


def test_two_columns_are_id_and_text(tmp_path: Path) -> None:
    path = write(tmp_path / "collection.tsv", "0\tThe harbour is grey.\n1\tMoss was born in Tarn Hill.\n")
    assert passages(path) == [("0", "", "The harbour is grey."), ("1", "", "Moss was born in Tarn Hill.")]


def test_pages_of_kilt_are_cut(tmp_path: Path) -> None:
    page = {"wikipedia_id": "7", "wikipedia_title": "Ida Moss", "text": ["Ida Moss\n", "Born in Tarn Hill. " * 3]}
    path = write(tmp_path / "kilt.json", (json.dumps(page) + "\n") * 2)
    found = passages(path, words=8)
    assert [identity for identity, _, _ in found] == ["7-0", "7-1"]
    assert count(path).layout == "KILT pages"
    table = tmp_path / "kilt.parquet"
    for text in (page["text"], {"paragraph": page["text"]}):  # the latter: the hub's copy
        pq.write_table(pa.Table.from_pylist([{**page, "kilt_id": "7", "text": text}]), table)
        assert passages(table, words=8) == found


def test_all_bad_pages_at_once_or_left_out(tmp_path: Path) -> None:
    good = {"wikipedia_title": "Ida Moss", "text": ["Ida Moss\n", "Born in Tarn Hill."]}
    rows = [good, {**good, "text": None}, {**good, "wikipedia_title": None}, {"wikipedia_title": "B", "text": ["b c"]}]
    path = write(tmp_path / "kilt.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(PipelineError, match=r"2 rows cannot be used: line 2: 'text' must be a list .* line 3: "):
        passages(path)
    assert [title for _, title, _ in passages(path, on_bad_row="skip")] == ["Ida Moss", "B"]
    assert count(path, on_bad_row="skip").skipped == {"bad_row": 2}


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ({"id": "a", "title": None, "text": "x y"}, [("a", "", "x y")]),
        ({"id": "a", "title": 1984, "text": "a novel"}, [("a", "1984", "a novel")]),
        ({"id": "a", "title": 1984.0, "text": 7}, [("a", "1984", "7")]),
        ({"id": 5, "title": "T", "text": None}, []),
        ({"id": "a", "title": "T", "text": ""}, []),
    ],
)
def test_nulls_and_numbers(tmp_path: Path, row: dict[str, Any], kept: Rows) -> None:
    path = write(tmp_path / "a.jsonl", LINES + json.dumps(row) + "\n")
    assert passages(path)[2:] == kept
    assert count(path).skipped == ({} if kept else {"empty_text": 1})


COLUMNS = {"passage_id": "meta.key", "title": "meta.names.0", "text": "body.main"}


def test_any_columns_by_a_mapping(tmp_path: Path) -> None:
    rows = [{"meta": {"key": i, "names": [t, "other"]}, "body": {"main": x}, "text": "no"} for i, t, x in BOTH]
    path = write(tmp_path / "own.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert passages(path, columns=COLUMNS) == BOTH
    assert count(path, columns=COLUMNS).columns == COLUMNS
    table = tmp_path / "own.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    assert passages(table, columns=COLUMNS) == BOTH
    strings = [{**row, "meta": json.dumps(row["meta"]), "body": json.dumps(row["body"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(strings), table)
    assert passages(table, columns=COLUMNS) == BOTH
    numbered = write(tmp_path / "own.tsv", "".join(f"{x}\tz\t{i}\t{t}\n" for i, t, x in BOTH))
    assert passages(numbered, columns={"text": 1, "passage_id": 3, "title": 4}) == BOTH


def test_a_mapped_id_that_is_not_there_is_no_other_column(tmp_path: Path) -> None:
    rows = [{"id": "x", "key": "k", "text": "a"}, {"id": "y", "key": None, "text": "b"}]
    path = write(tmp_path / "own.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    (first, _, _), (second, _, _) = passages(path, columns={"passage_id": "key", "text": "text"})
    assert first == "k" and len(second) == 16


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": "gist"},
            r"line 1: corpus\.columns\.text names 'gist', which does not exist \(columns found: id, title,",
        ),
        ({"text": "text", "title": 2}, "column names and column numbers are mixed"),
        ({"text": 1, "title": 1}, "column numbers count from 1, each once"),
        ({"text": 0}, "column numbers count from 1, each once"),
    ],
)
def test_a_mapping_that_cannot_be_is_one_line(tmp_path: Path, columns: dict[str, str | int], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        passages(write(tmp_path / "a.jsonl", LINES), columns=columns)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("utf16.jsonl", LINES.encode("utf-16"), "UTF-16 text (convert it: iconv"),
        ("lfs.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS"),
        ("columns.json", json.dumps({"title": ["a", "b"], "text": ["x", "y"]}), "one object of columns, not a list of"),
        ("a.parquet.gz", b"", "a compressed Parquet file"),
        ("a.zip", b"PK\x03\x04 and no more", "cut off or damaged"),
        ("a.jsonl.xz", lzma.compress(LINES.encode())[:-9], "cut off or damaged"),
        ("header.tsv", "nr\tbody_text\theading\n1\tx y\tz\n", "looks like a header of unknown names: nr, body_"),
        ("short.tsv", "1\tred cat\tblue dog\n2\tgreen\tyellow\n", "title and text cannot be told apart"),
        ("page.jsonl", "<!DOCTYPE html><html>Sign in</html>", "a page of a website, not the file itself"),
        ("data.arrow", b"ARROW1\0\0", "an Arrow table"),
        ("a.tar.gz", b"", "an archive (unpack it)"),
        ("semicolons.csv", "id;title;text\n1;A;x\n", "separated by ';', not by commas"),
        ("latin.csv", "id,title,text\n1,Caf\xe9,x\n".encode("latin-1"), "not UTF-8 (convert it: iconv"),
        ("titled.tsv", "0\tAda   Ada was born.\n1\tMoss   He was.\n", "titles stand in front of the texts, as in the"),
        (
            "abstracts.tsv",
            '\ufeff0\t"Title: A Text:  x ""y""."\n',
            "R1-Searcher (corpus.source: hotpotqa_abstracts; or",
        ),
        ("words", "no fields in this one", "neither its name (no ending) nor its first bytes tell what kind of file"),
        ("own.jsonl", json.dumps({"key": "1", "gist": "x"}) + "\n", "no column for a passage's text (text, passage, "),
    ],
)
def test_what_cannot_be_read_says_what_it_is(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        passages(write(tmp_path / name, content))
    said = str(caught.value)
    assert message in said and name in said and "\n" not in said
    assert is_documented_refusal(said.partition(": ")[2]), "the table of docs/file-formats.md lacks this line"


BAD = (
    LINES + '{"id": "x", "title"\n' + json.dumps({"id": "y", "title": "T", "text": ["a"]}) + "\n" + LINES.split("\n")[0]
)


def test_all_bad_rows_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", BAD)
    with pytest.raises(PipelineError) as caught:
        passages(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: 3 rows cannot be used: line 3: not JSON: ")
    assert "; line 4: 'text' must be a string, got ['a']; line 5: passage id 'h' is a duplicate" in said
    assert said.endswith("(correct them, or leave them out with corpus.on_bad_row: skip)")


def test_bad_rows_are_left_out_and_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", BAD)
    assert passages(path, on_bad_row="skip") == BOTH
    found = count(path, on_bad_row="skip")
    assert (found.read, found.kept, found.skipped) == (5, 2, {"bad_row": 3})
    assert [line.split(":")[0] for line in found.examples["bad_row"]] == ["line 3", "line 4", "line 5"]
    rows = write(tmp_path / "a.tsv", "id\ttitle\ttext\n1\tA\n2\tB\tb\n")
    assert passages(rows, on_bad_row="skip") == [("2", "B", "b")]


def test_a_row_may_have_a_title_although_the_first_has_none(tmp_path: Path) -> None:
    assert passages(write(tmp_path / "a.jsonl", '{"text": "a b"}\n' + LINES))[1:] == BOTH


def test_folders_patterns_and_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "wiki" / "AB").mkdir(parents=True)
    for name in (
        "wiki/b.jsonl",
        "wiki/AB/a.jsonl",
        "wiki/.hidden",
        "wiki/b.jsonl.sha256",
        "wiki/README.md",
        "odd[1].jsonl",
    ):
        write(tmp_path / name, LINES)
    folder = tmp_path / "wiki"
    assert files_of(["~/wiki"], where="p") == [folder / "AB/a.jsonl", folder / "b.jsonl"]
    assert files_of([f"{folder}/**/*.jsonl"], where="p") == [folder / "AB/a.jsonl", folder / "b.jsonl"]
    assert files_of([str(tmp_path / "odd[1].jsonl"), "gone"], where="p") == [tmp_path / "odd[1].jsonl", Path("gone")]
    with pytest.raises(PipelineError, match=r"^p: '~/wiki/\*.tsv' has no file"):
        files_of(["~/wiki/*.tsv"], where="p")
