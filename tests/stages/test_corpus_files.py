"""Passages from the user's files: every layout, every fault, and the resulting folder."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_searcher.corpus import files, own_files
from r1_searcher.corpus.counts import SKIPPED_REPEATED, FileCount
from r1_searcher.corpus.kilt import read_kilt
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, passages, records
from r1_searcher.types import schemas
from stages.corpus.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
PASSAGES = [{"title": "Ann Lee", "text": "Born in Rome."}, {"title": "Silent Crown", "text": 'A "film"\tof 1920.'}]


def read(*paths: Path) -> list[dict[str, str]]:
    return list(own_files.read_passages(paths, []))


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def jsonl(path: Path, *rows: Any) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def fault(path: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, as the working directory."""
    (tmp_path / "params.yaml").write_text((ROOT / "r1_searcher/params/defaults.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def use_files(*names: str, **changes: object) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["corpus"] |= {"source": "files", "files": list(names)} | changes
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


def test_the_same_passages_from_every_kind_of_file(tmp_path: Path) -> None:
    quoted = 'title\ttext\nAnn Lee\tBorn in Rome.\nSilent Crown\t"A ""film"" of 1920."\n'
    paths = [
        jsonl(tmp_path / "a.jsonl", *PASSAGES),
        write(tmp_path / "a.json", json.dumps(PASSAGES, indent=2)),
        write(tmp_path / "a.tsv", quoted),
        tmp_path / "a.parquet",
    ]
    pq.write_table(pa.Table.from_pylist([row | {"views": 7} for row in PASSAGES]), paths[3])
    from_jsonl, from_json, from_tsv, from_parquet = (read(path) for path in paths)
    assert [(row["title"], row["text"]) for row in from_jsonl] == [(row["title"], row["text"]) for row in PASSAGES]
    assert [row["passage_id"] for row in from_jsonl] == [row["passage_id"] for row in from_json]
    assert [row["passage_id"] for row in from_jsonl] == [row["passage_id"] for row in from_parquet]
    assert [row["text"] for row in from_tsv] == ["Born in Rome.", 'A "film" of 1920.']
    assert {row["source"] for row in from_json} == {"a.json"}


def test_ids_are_kept_where_given_and_made_where_not(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        {"id": 0, "title": "A", "text": "a"},
        {"passage_id": "x", "id": "not this", "title": "B", "text": "b"},
        {"id": "", "title": "C", "text": "c"},
        {"id": None, "title": "D", "text": "d"},
    )
    ids = [row["passage_id"] for row in read(path)]
    assert ids[:2] == ["0", "x"]
    assert ids[2:] == [files.passage_id("C", "c"), files.passage_id("D", "d")]
    assert files.passage_id("C", "c") == "054fd895350296dd"  # never changes: rollouts refer to it
    assert files.passage_id("A", "B\tC") != files.passage_id("A\tB", "C")


def test_made_ids_do_not_depend_on_the_order_of_passages(tmp_path: Path) -> None:
    there, back = jsonl(tmp_path / "a.jsonl", *PASSAGES), jsonl(tmp_path / "b.jsonl", *PASSAGES[::-1])
    assert {row["passage_id"] for row in read(there)} == {row["passage_id"] for row in read(back)}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_tsv_without_a_header(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / "a.tsv", ending.join(["\ufeff7\tAnn Lee\tBorn in Rome, long ago.", "", "8\t\tNo title."]))
    assert [(row["passage_id"], row["title"], row["text"]) for row in read(path)] == [
        ("7", "Ann Lee", "Born in Rome, long ago."),
        ("8", "", "No title."),
    ]


def test_tsv_with_a_header_in_dpr_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'id\ttext\ttitle\n1\t"Aaron ""is"" a prophet"\t"Weird Al" Yankovic\n')
    assert read(path) == [
        {"passage_id": "1", "title": '"Weird Al" Yankovic', "text": 'Aaron "is" a prophet', "source": "a.tsv"}
    ]


def test_a_stray_quote_swallows_no_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'title\ttext\nA\t"Hello he said\nB\tb\n')
    assert [row["text"] for row in read(path)] == ['"Hello he said', "b"]


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t"), max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(LINE, LINE.filter(str.strip)), min_size=1, max_size=5))
def test_any_text_survives_jsonl(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    path = write(
        tmp_path / "a.jsonl",
        "".join(json.dumps({"title": title, "text": text}, ensure_ascii=False) + "\n" for title, text in rows),
    )
    expected = list(dict.fromkeys((title.strip(), text.strip()) for title, text in rows))
    assert [(row["title"], row["text"]) for row in read(path)] == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"title": "A", "text": "a"}\n\n{"title": "B", "te\n', "a.jsonl, line 3: not JSON"),
        ("a.jsonl", '{"title": "A", "text": "a"}\n["B", "b"]\n', "a.jsonl, line 2: a JSON object is needed"),
        (
            "a.jsonl",
            '{"title": "A", "gist": "a"}\n',
            "line 1: no column for a passage's text (text, passage, segment, ",
        ),
        (
            "a.jsonl",
            '{"title": "A", "gist": "a"}\n',
            "(columns found: title, gist; name yours by corpus.columns: {text: ",
        ),
        (
            "a.jsonl",
            '{"title": "A", "text": "a"}\n{"title": "B"}\n',
            "line 2: column 'text' is missing (columns found: ",
        ),
        ("a.jsonl", '{"title": "A", "text": ["a", "b"]}\n', "line 1: 'text' must be a string, got ['a', 'b']"),
        ("a.jsonl", '{"title": true, "text": "a"}\n', "line 1: 'title' must be a string, got True"),
        ("a.jsonl", '{"id": 1.5, "title": "A", "text": "a"}\n', "line 1: 'id' must be a string or a whole number"),
        ("a.jsonl", '{"id": true, "title": "A", "text": "a"}\n', "line 1: 'id' must be a string or a whole number"),
        ("a.jsonl", "", "a.jsonl: no passage in this file"),
        ("a.jsonl", '{"title": "A", "text": " "}\n', "a.jsonl: none of its 1 passages has a new text"),
        ("a.json", '[{"title": "A", "text": "a"},\n {"title"}]', "a.json, line 2: not JSON"),
        ("a.json", '[{"title": "A", "text": "a"}, 3]', "a.json, item 2: a JSON object is needed, got 3"),
        ("a.json", '[{"title": "A", "text": "a"}, {"title": "B"}]', "a.json, item 2: column 'text' is missing"),
        ("a.json", '{"title": "A", "text": "a"}', "a.json: a JSON array of objects is needed"),
        ("a.json", "[]", "a.json: no passage in this file"),
        ("a.tsv", "title\ttext\nA\ta\nB\n", "a.tsv, line 3: 1 fields, not 2 (needed: title, text)"),
        ("a.tsv", "id\ttitle\tgist\n1\tA\ta\n", "a.tsv, line 2: no column for a passage's text"),
        (
            "a.tsv",
            "1\tA a\tb\tc\n",
            "a.tsv: no header, and 4 columns of unknown meaning (say which is which: corpus.col",
        ),
        ("a.tsv", "1\tA a\tb c\n", "a.tsv: no header, and title and text cannot be told apart (say which is which: "),
        ("a.tsv", "nr\tgist\n1\ta\n", "a.tsv, line 1: the first line looks like a header of unknown names: nr, gist"),
        ("a.tsv", "title\ttext\ttext\nA\ta\tb\n", "a.tsv, line 1: the header names a column twice"),
        ("a.tsv", "title\ttext\n", "a.tsv: no passage in this file"),
        ("a.csv", "title,text\n", "a.csv: no passage in this file"),
        ("a.parquet", "title", "a.parquet: not a Parquet file"),
    ],
)
def test_bad_input_names_the_file_and_the_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    assert message in fault(write(tmp_path / name, text))


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"title": "A", "text": "a"}\n{"title": "\xff", "text": "b"}\n')
    assert "a.jsonl, line 2: not UTF-8 at byte 12 of the line" in fault(path)
    path = tmp_path / "a.json"
    path.write_bytes(b'["\xff"]')
    assert "a.json: not UTF-8 at byte 3" in fault(path)


def test_half_a_surrogate_pair_is_a_fault_and_a_whole_one_a_character(tmp_path: Path) -> None:
    """JSON can encode one, but no text file can."""
    for name, text in {
        "a.jsonl": '{"title": "A", "text": "a \\ud83d\\ude00"}\n{"title": "B", "text": "b \\ud800"}\n',
        "a.json": '[{"title": "A", "text": "a \\ud83d\\ude00"}, {"title": "B \\uDFFF", "text": "b"}]',
    }.items():
        place, half = ("line", "d800") if name == "a.jsonl" else ("item", "dfff")
        assert f"{name}, {place} 2: half a surrogate pair (\\u{half}), which is not a character" in fault(
            write(tmp_path / name, text)
        )
    assert read(write(tmp_path / "b.jsonl", '{"title": "A", "text": "\\ud83d\\ude00"}\n'))[0]["text"] == "\U0001f600"
    nested = jsonl(tmp_path / "kilt.jsonl", {"wikipedia_title": "A", "text": ["A", "b \ud800"]})
    with pytest.raises(PipelineError, match=r"kilt\.jsonl, line 1: half a surrogate pair"):
        list(read_kilt([nested], [], 100))


def test_parquet_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"title": ["A"], "gist": ["a"]}), path)
    assert "a.parquet, row 1: no column for a passage's text" in fault(path) and "found: title, gist;" in fault(path)
    pq.write_table(pa.table({"title": ["A", "B"], "text": [["a"], ["b"]]}), path)
    assert "a.parquet: 2 rows cannot be used: row 1: 'text' must be a string, got ['a']; row 2: " in fault(path)
    pq.write_table(pa.table({"title": ["A"], "text": ["a"]}).slice(0, 0), path)
    assert "a.parquet: no passage in this file" in fault(path)
    assert "nowhere.parquet: no such file" in fault(tmp_path / "nowhere.parquet")


def test_a_repeated_id_stops_and_a_repeated_passage_is_skipped(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", {"id": 1, "title": "A", "text": "a"}, PASSAGES[0], PASSAGES[0])
    counts: list[FileCount] = []
    assert len(list(own_files.read_passages([first], counts))) == 2
    (count,) = counts
    assert (count.read, count.kept, count.passages, count.skipped) == (3, 2, 2, {SKIPPED_REPEATED: 1})
    assert (count.layout, count.columns) == ("title and text", {"passage_id": "id", "title": "title", "text": "text"})
    second = jsonl(tmp_path / "b.jsonl", PASSAGES[1], {"passage_id": "1", "title": "B", "text": "b"})
    with pytest.raises(PipelineError, match=r"b\.jsonl, line 2: passage id '1' is a duplicate"):
        read(first, second)


def test_lines_are_streamed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps(PASSAGES[0]) + "\nbroken")
    rows = own_files.read_passages([path], [])
    assert next(rows)["title"] == "Ann Lee"  # before the broken line was reached
    with pytest.raises(PipelineError, match="line 2"):
        next(rows)


def test_the_corpus_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(project / "a.jsonl", *PASSAGES, {"title": "Empty", "text": ""}, PASSAGES[0])
    write(project / "b.tsv", "7\tDog\tbarks at night\n")
    use_files("a.jsonl", "b.tsv")
    assert main([]) == 0
    assert "3 passages, 1 skipped (empty_text), 1 skipped (repeated_passage), 0 facts" in capsys.readouterr().out
    table = artefacts.read_table("data/corpus/passages.parquet")
    assert table.schema.remove_metadata() == schemas.PASSAGES
    assert table["title"].to_pylist() == ["Ann Lee", "Silent Crown", "Dog"]
    assert table["source"].to_pylist() == ["a.jsonl", "a.jsonl", "b.tsv"]
    assert artefacts.read_table("data/corpus/facts.parquet", schemas.FACTS).num_rows == 0
    report = artefacts.read_json("data/corpus/report.json")
    assert report == {
        "source": "files",
        "passages": 3,
        "read": 5,
        "kept": 3,
        "skipped": {"empty_text": 1, "repeated_passage": 1},
        "lengths": {
            "measured": 3,
            "words": {"median": 3, "p90": 4, "p99": 4, "max": 4},
            "characters": {"median": 14, "p90": 17, "p99": 17, "max": 17},
            "bytes": {"median": 14, "p90": 17, "p99": 17, "max": 17},
        },
        "facts": 0,
        "files": [
            {
                "file": "a.jsonl",
                "unit": "passage",
                "read": 4,
                "kept": 2,
                "passages": 2,
                "skipped": {"empty_text": 1, "repeated_passage": 1},
                "examples": {"empty_text": ["line 3: Empty"], "repeated_passage": ["line 4: Ann Lee"]},
                "layout": "title and text",
                "columns": {"title": "title", "text": "text"},
            },
            {
                "file": "b.tsv",
                "unit": "passage",
                "read": 1,
                "kept": 1,
                "passages": 1,
                "skipped": {},
                "examples": {},
                "layout": "title and text",
                "columns": {"passage_id": "id", "title": "title", "text": "text"},
            },
        ],
    }
    before = artefacts.sha256_tree("data/corpus")
    assert main([]) == 0
    assert artefacts.sha256_tree("data/corpus") == before


def test_more_passages_than_a_part(project: Path) -> None:
    rows = [{"title": f"Title {number}", "text": f"Text {number}."} for number in range(25_001)]
    jsonl(project / "a.jsonl", *rows)
    use_files("a.jsonl", rows_a_part=20_000)
    assert main([]) == 0
    assert [path.name for path in passages.parts("data/corpus")] == ["part-00000.parquet", "part-00001.parquet"]
    assert passages.read("data/corpus")["title"].to_pylist() == [row["title"] for row in rows]
    use_files("a.jsonl", rows_a_part=30_000)
    assert main([]) == 0
    assert [path.name for path in passages.parts("data/corpus")] == ["passages.parquet"]
    assert not Path("data/corpus/passages").exists()


def test_a_world_comes_with_its_facts(project: Path) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["corpus"]["world"] = {"people": 20, "films": 6, "books": 6, "cities": 5}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    assert main([]) == 0
    table = passages.read("data/corpus")
    facts = artefacts.read_table("data/corpus/facts.parquet", schemas.FACTS)
    assert table.num_rows >= 20 + 6 + 6 and facts.num_rows > 0
    report = artefacts.read_json("data/corpus/report.json")
    assert (report["source"], report["kept"], report["facts"]) == ("world", table.num_rows, facts.num_rows)


def test_a_fault_keeps_the_old_corpus(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(project / "a.jsonl", *PASSAGES)
    use_files("a.jsonl")
    assert main([]) == 0
    before = artefacts.sha256_tree("data/corpus")
    with (project / "a.jsonl").open("a") as file:
        file.write("{broken\n")
    capsys.readouterr()
    assert main([]) == 2
    assert "error: a.jsonl, line 3: not JSON" in one_error_line(capsys)
    assert artefacts.sha256_tree("data/corpus") == before
    assert [entry.name for entry in Path("data").iterdir()] == ["corpus"]


def test_a_full_disk_keeps_the_old_corpus(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jsonl(project / "a.jsonl", *PASSAGES)
    use_files("a.jsonl")
    assert main([]) == 0
    before = artefacts.sha256_tree("data/corpus")

    def full(self: object, table: pa.Table) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    capsys.readouterr()
    assert main([]) == 2
    assert "the disk is full" in one_error_line(capsys)
    assert artefacts.sha256_tree("data/corpus") == before
    assert [entry.name for entry in Path("data").iterdir()] == ["corpus"]


def test_files_without_a_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    use_files()
    assert main([]) == 2
    assert "source is files, but corpus.files names none" in one_error_line(capsys)


def test_a_place_counts_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '\n{"title": "A"}\n\n{"title": "B"}\n')
    found = list(records.read_records(path, ["title"]))
    assert [(record.place, record.number) for record in found] == [(f"{path}, line 2", 2), (f"{path}, line 4", 4)]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {DATA} (set R1SEARCHER_DATA)")
def test_a_real_corpus() -> None:
    counts: list[FileCount] = []
    rows = list(own_files.read_passages([DATA / "hippo_train100/musique_train_corpus.json"], counts))
    assert counts[0].read == 1890
    assert counts[0].kept == len(rows) == 1890 - sum(counts[0].skipped.values())
    assert rows[0]["title"] == "Journal of Mathematical Physics"
    assert rows[0]["text"].startswith("The Journal of Mathematical Physics is a peer-reviewed journal")
