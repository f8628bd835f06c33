"""The corpus folder as a whole: sources by parameters, killed runs, progress, and the memory of ids."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.files import artefacts, passages
from r1_searcher.progress import Paced
from stages.corpus.__main__ import main
from stages.corpus.run import counted

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "r1_searcher/params/defaults.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def use(**changes: Any) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["corpus"] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(raw))


@pytest.mark.parametrize(
    ("source", "line", "ids", "unit"),
    [
        ("kilt", {"wikipedia_title": "A", "wikipedia_id": "7", "text": ["A", "b c d e"]}, ["7-0", "7-1"], "page"),
        ("hotpotqa_abstracts", {"id": 7, "title": "A", "text": ["b c.", "d e."]}, ["7"], "article"),
        ("contexts", {"context": [["A", ["b c.", "d e."]]]}, ["095309dfcf1c673b"], "paragraph"),
        ("files", {"id": "x", "title": "A", "text": "b c d e"}, ["x"], "passage"),
    ],
)
def test_every_source_by_its_name(project: Path, source: str, line: Any, ids: list[str], unit: str) -> None:
    Path("a.jsonl").write_text(json.dumps(line) + "\n")
    use(source=source, files=["a.jsonl"], kilt={"words": 3})
    assert main([]) == 0
    assert passages.read("data/corpus")["passage_id"].to_pylist() == ids
    report = artefacts.read_json("data/corpus/report.json")
    assert (report["source"], report["passages"], report["kept"]) == (source, len(ids), 1)
    assert report["files"][0]["unit"] == unit


@pytest.mark.parametrize("source", ["kilt", "hotpotqa_abstracts", "contexts", "files"])
def test_every_source_needs_files(project: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    use(source=source, files=[])
    assert main([]) == 2
    assert f"source is {source}, but corpus.files names none" in capsys.readouterr().err


def test_a_folder_of_other_files_is_not_replaced(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "notes").mkdir()
    (project / "notes/mine.txt").write_text("mine")
    assert main(["--corpus", "notes"]) == 2
    assert "notes: a folder with other files, which would be replaced" in capsys.readouterr().err
    assert (project / "notes/mine.txt").read_text() == "mine"


def test_a_killed_run_leaves_the_old_corpus_and_the_next_one_tidies_up(project: Path) -> None:
    Path("a.jsonl").write_text('{"title": "A", "text": "a"}\n')
    use(source="files", files=["a.jsonl"], rows_a_part=5)
    assert main([]) == 0
    before = artefacts.sha256_tree("data/corpus")
    rows = (json.dumps({"title": f"T{number}", "text": "t"}) for number in range(100_000))
    Path("b.jsonl").write_text("\n".join(rows))
    use(source="files", files=["b.jsonl"])  # in 20,000 parts: slow
    running = subprocess.Popen([sys.executable, "-m", "stages.corpus"], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        while len(list(Path("data").glob(".corpus.*.draft/passages/part-*.parquet"))) < 11:
            assert running.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
    finally:
        running.kill()
        running.wait()
    drafts = list(Path("data").glob(".corpus.*.draft"))
    assert len(drafts) == 1
    assert len(list(drafts[0].glob("passages/part-*.parquet"))) > 10
    assert artefacts.sha256_tree("data/corpus") == before
    mine = Path(f"data/.corpus.{os.getppid()}.draft")  # of a running process
    mine.mkdir()
    use(source="files", files=["a.jsonl"])
    assert main([]) == 0
    assert sorted(path.name for path in Path("data").iterdir()) == sorted([mine.name, "corpus"])
    assert artefacts.sha256_tree("data/corpus") == before


def test_passages_are_told_beside_the_bytes_that_they_are_from() -> None:
    now, out = [0.0], io.StringIO()
    paced = Paced("corpus", unit="bytes", total=400, out=out, clock=lambda: now[0])
    rows = [{"passage_id": str(number)} for number in range(2500)]
    paced.add(100)
    assert list(counted(iter(rows), paced)) == rows
    now[0] = 20.0
    paced.look()
    assert out.getvalue() == "corpus: 100 of 400 bytes, 20 s so far, 5 per second, 2,000 passages\n"


@settings(deadline=None)
@given(st.lists(st.text(max_size=5)))
def test_seen_is_a_set(texts: list[str]) -> None:
    seen, wanted = SeenIds(), set()
    for text in texts:
        assert seen.add(text) == (text not in wanted)
        wanted.add(text)
    assert len(seen) == len(wanted)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["0", "00", "7", "07", "\u0667", "-7", "7 ", str(2**27 - 1), str(2**27), "123456789"])))
def test_numbers_are_ids_like_others(texts: list[str]) -> None:
    seen, wanted = SeenIds(), set()
    for text in texts:
        assert seen.add(text) == (text not in wanted)
        wanted.add(text)
    assert len(seen) == len(wanted)


def test_numbers_take_a_bit_each_and_have_a_limit() -> None:
    seen = SeenIds()
    assert all(seen.add(str(number)) for number in range(100_000))
    assert not any(seen.add(str(number)) for number in range(100_000))
    assert seen.nbytes <= 100_000 / 8 + 20_000
    assert all(seen.add(str(number)) for number in range(2**20, 2**27, 2**16))  # the worst case: one in each block
    assert seen.nbytes <= 2**24 + 2**16


def test_seen_grows_and_stays_small() -> None:
    seen = SeenIds()
    assert all(seen.add(f"p{number}") for number in range(50_000))
    assert not any(seen.add(f"p{number}") for number in range(50_000))
    assert len(seen) == 50_000
    assert seen.nbytes <= 22 * 50_000
