"""The index as files: its corpus and parameters, how it is opened, and the commands."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from r1_searcher import params
from r1_searcher.cli.index import main, parser
from r1_searcher.corpus.world import make_world
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, passages
from r1_searcher.files.sums import SUMS_FILE, renew
from r1_searcher.retrieval import build, build_index, open_index
from r1_searcher.retrieval.identity import search_fingerprint
from r1_searcher.types import schemas

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = params.Index(k1=1.5, b=0.75, title_weight=3, stemmer="none", stopwords="none")


def write_corpus(folder: Path, *titles: str) -> Path:
    rows = [
        {"passage_id": f"p{number}", "title": title, "text": f"{title} is passage {number}.", "source": "test"}
        for number, title in enumerate(titles)
    ]
    artefacts.write_table(folder / "passages.parquet", pa.Table.from_pylist(rows, schema=schemas.PASSAGES))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and a corpus, as the working directory."""
    (tmp_path / "params.yaml").write_text((ROOT / "r1_searcher/params/defaults.yaml").read_text())
    write_corpus(tmp_path / "data/corpus", "Silent Crown", "Golden River", "Ann Lee")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_index(**changes: object) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["index"] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1 and "Traceback" not in line
    return line


def test_build_and_search_from_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("index: 3 passages, ")
    assert main(["search", "who made the golden river", "-k", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1. ") and "[p1] Golden River: Golden River is passage 1." in out and out.count("\n") == 1
    assert main(["search", "xyzzy"]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_a_passage_does_nothing_to_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(project / "data/corpus", "Golden \x1b[2J\n\u202eRiver")
    assert main([]) == 0
    capsys.readouterr()
    assert main(["search", "golden"]) == 0
    assert r"[p0] Golden \x1b[2J \u202eRiver: Golden \x1b[2J \u202eRiver is passage 0." in capsys.readouterr().out


def test_the_index_folder_may_stand_before_or_after_search(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--index", "elsewhere"]) == 0
    for arguments in (["--index", "elsewhere", "search", "crown"], ["search", "--index", "elsewhere", "crown"]):
        capsys.readouterr()
        assert main(arguments) == 0
        assert "[p0] Silent Crown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["search", ""], "error: an empty query (give the words to search for"),
        (["search", " \t"], "error: an empty query (give the words to search for"),
        (["search", "crown", "-k", "some"], "error: -k: must be a whole number, got 'some'"),
    ],
)
def test_a_search_for_nothing_is_one_line(
    project: Path, arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([])
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == 1


def test_the_title_of_the_help_is_in_the_laptops_world() -> None:
    settings = params.load(ROOT / "r1_searcher/params/defaults.yaml")
    titles = make_world(settings.corpus.world, settings.seed).passages()["title"].to_pylist()
    named = re.search(r'directed ([^"]+)"', parser().epilog or "")
    assert named and named[1] in titles


def test_meta_says_what_the_index_was_made_from(project: Path) -> None:
    main([])
    meta = artefacts.read_json("data/index/meta.json")
    assert meta["corpus"] == artefacts.sha256_file("data/corpus/passages.parquet")
    assert meta["num_passages"] == 3
    assert meta["settings"] == params.shipped().index.model_dump(exclude={"memory_gb", "dense"}) | {"method": "lucene"}
    assert meta["bm25s"] and len(meta["content"]) == 64 and "code" not in meta
    assert open_index("data/index", corpus="data/corpus").fingerprint == search_fingerprint(meta)


def test_an_index_of_another_corpus_is_refused(project: Path) -> None:
    main([])
    open_index("data/index", corpus=Path("data/corpus/passages.parquet"))
    write_corpus(project / "data/corpus", "Silent Crown", "Golden River", "Ann Leo")
    with pytest.raises(PipelineError) as caught:
        open_index("data/index", corpus="data/corpus")
    line = str(caught.value)
    assert "\n" not in line
    now = artefacts.sha256_file("data/corpus/passages.parquet")[:12]
    assert f"is corpus {now}" in line and "the index belongs to corpus" in line and "dvc repro index" in line


def test_the_files_do_not_depend_on_the_order_of_sets(project: Path) -> None:
    sums = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages.index", "--index", f"index{seed}"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        sums.append(artefacts.sha256_tree(f"index{seed}"))
    assert sums[0] == sums[1]


def test_the_commands_refuse_an_index_of_another_corpus_where_one_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([])
    write_corpus(Path("other"), "Another Thing")
    for arguments in (["search", "crown"], ["serve", "--port", "0"]):
        capsys.readouterr()
        assert main(["--corpus", "other", *arguments]) == 2
        assert "data/index: the index belongs to corpus" in one_error_line(capsys)
    assert main(["--corpus", "data/corpus", "search", "crown"]) == 0


def test_opening_reads_neither_passages_nor_scores(tmp_path: Path) -> None:
    def text(number: int) -> str:
        return " ".join(f"w{(7 * number + place) % 2000}" for place in range(1000))

    rows = [
        {"passage_id": f"p{number}", "title": f"title{number}", "text": text(number), "source": "test"}
        for number in range(500)
    ]
    build_index(pa.Table.from_pylist(rows, schema=schemas.PASSAGES), SETTINGS, tmp_path / "index", "corpus")
    size = min((tmp_path / "index" / name).stat().st_size for name in ("passages.arrow", "data.csc.index.npy"))
    assert size > 1_900_000
    open_index(tmp_path / "index")  # imports of the first opening are not counted
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    engine = open_index(tmp_path / "index")
    [[passage]] = engine.search(["title399"], 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert passage.passage_id == "p399"
    assert peak < size / 5
    assert pa.total_allocated_bytes() - before < size / 10


@pytest.mark.parametrize("name", ["passages.arrow", "data.csc.index.npy", "vocabulary.arrow", "params.index.json"])
@pytest.mark.parametrize("fault", ["missing", "cut"])
def test_a_broken_index_is_one_line(project: Path, name: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    path = Path("data/index", name)
    whole = path.read_bytes()
    path.unlink()
    if fault == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert main(["search", "crown"]) == 2
    line = one_error_line(capsys)
    assert f"{path}: " in line and "dvc repro" in line
    Path("data/index", SUMS_FILE).unlink()  # like an index older than checksums
    assert main(["search", "crown"]) == 2
    line = one_error_line(capsys)
    assert "data/index: a broken index" in line and "dvc repro index" in line


def test_no_index_and_no_meta(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "crown"]) == 2
    assert "data/index: no index here (run `dvc repro index`" in one_error_line(capsys)
    artefacts.write_json("data/index/meta.json", {"corpus": "x"})
    assert main(["search", "crown"]) == 2
    assert "not the meta file of an index" in one_error_line(capsys)


def test_an_index_of_another_tokenizer_is_refused(project: Path) -> None:
    main([])
    meta = artefacts.read_json("data/index/meta.json")
    artefacts.write_json("data/index/meta.json", meta | {"tokenizer": "0" * 64})
    renew(Path("data/index"))
    with pytest.raises(PipelineError, match="made with another tokenizer"):
        open_index("data/index")


def test_bad_input_is_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefacts.write_table("data/corpus/passages.parquet", schemas.PASSAGES.empty_table())
    assert main([]) == 2
    assert "data/corpus: the corpus is empty" in one_error_line(capsys)
    artefacts.write_table("data/corpus/passages.parquet", pa.table({"passage_id": ["a"], "title": ["b"]}))
    assert main([]) == 2
    assert "column 'text' is missing" in one_error_line(capsys)
    shutil.rmtree("data/corpus")
    assert main([]) == 2
    assert "data/corpus/passages.parquet: no such file" in one_error_line(capsys)
    set_index(k2=1)
    assert main([]) == 2
    assert "params.yaml, index.k2: unknown parameter" in one_error_line(capsys)
    assert not Path("data/index").exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError("9 requested and 4 written")]
)
def test_a_full_disk_keeps_the_old_index(
    project: Path, error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main([])
    before = artefacts.sha256_tree("data/index")
    set_index(k1=0.9)

    def full(*arguments: object, folder: Path, **options: object) -> None:
        (folder / "data.csc.index.npy").write_bytes(b"half")
        raise error

    monkeypatch.setattr(build, "write_scores", full)
    capsys.readouterr()
    assert main([]) == 2
    assert "the disk is full" in one_error_line(capsys)
    assert artefacts.sha256_tree("data/index") == before
    assert sorted(entry.name for entry in Path("data").iterdir()) == ["corpus", "index"]


def test_a_killed_build_leaves_nothing_that_is_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    whole = artefacts.sha256_tree("data/index")
    set_index(memory_gb=1e-7)
    code = """
import os, signal, r1_searcher.retrieval.build as build
build.write_scores = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)
import stages.index.__main__ as command
command.main([])
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert killed.returncode == -9
    [draft] = set(Path("data").iterdir()) - {Path("data/corpus"), Path("data/index")}
    assert (draft / "shards/00000/rows.npy").is_file()
    assert artefacts.sha256_tree("data/index") == whole
    capsys.readouterr()
    assert main([]) == 0
    assert f"index: removed {draft}, left by a killed run" in capsys.readouterr().err
    assert sorted(entry.name for entry in Path("data").iterdir()) == ["corpus", "index"]
    assert artefacts.sha256_tree("data/index") == whole  # the budget changes no file


def test_a_corpus_in_parts_is_indexed_as_in_one_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    table = artefacts.read_table("data/corpus/passages.parquet")
    parts = Path("parts")
    parts.mkdir()
    passages.write(parts, table.to_pylist(), 2)
    assert len(passages.parts(parts)) == 2
    assert main(["--corpus", "parts", "--index", "other"]) == 0
    for path in Path("data/index").iterdir():
        # Except the corpus' name, and where its batches end.
        if path.name not in ("meta.json", "passages.arrow", SUMS_FILE):
            assert path.read_bytes() == (Path("other") / path.name).read_bytes(), path.name
    found = open_index("data/index").search(["golden river"], 2)
    assert found == open_index("other", corpus=parts).search(["golden river"], 2)


def test_the_command_line_loads_no_heavy_library() -> None:
    code = "import sys, stages.index.__main__ as m; print('bm25s' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_folder_of_other_files_is_not_replaced(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "notes").mkdir()
    (project / "notes/mine.txt").write_text("mine")
    assert main(["--index", "notes"]) == 2
    assert "a folder with other files, which would be replaced" in one_error_line(capsys)
    assert (project / "notes/mine.txt").read_text() == "mine"
    assert main(["--index", "index"]) == 0
    assert main(["--index", "index"]) == 0  # an index may be built again
    assert main([]) == 0
    Path("data/index", SUMS_FILE).unlink()  # like an index older than checksums
    assert main([]) == 0
