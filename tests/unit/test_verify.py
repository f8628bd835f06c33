"""``r1_searcher.files.verify``: damaged files are listed with a remedy, and moved aside on request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from r1_searcher.files import sums, verify
from r1_searcher.files.artefacts import atomic, write_json
from r1_searcher.files.store import Store

KEY = "ab" + "0" * 62


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an artefact, an output, and DVC's cache of the output and of a single file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1SEARCHER_STORE", raising=False)
    monkeypatch.setattr(verify, "cache_folder", lambda: tmp_path / ".dvc/cache/files/md5")
    with Store().put("rollouts", KEY) as draft:
        (draft / "rollouts.parquet").write_bytes(b"rollouts")
    with atomic("data/index", folder=True) as draft:
        (draft / "scores").write_bytes(b"scores")
        write_json(draft / "meta.json", {"k": 1})
    write_json("metrics/train/s1.json", {"reward": 0.5})
    listed = [{"md5": cached(path), "relpath": path.name} for path in sorted(Path("data/index").iterdir())]
    listing = tmp_path / "listing"
    listing.write_text(json.dumps(listed))
    whole = cached(listing, ".dir")
    listing.unlink()
    outs = [
        {"path": "data/index", "md5": whole},
        {"path": "metrics/train/s1.json", "md5": md5("metrics/train/s1.json")},
    ]
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"index": {"outs": outs}}}))
    return tmp_path


def md5(path: Path | str) -> str:
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()


def cached(path: Path, ending: str = "") -> str:
    name = md5(path) + ending
    place = Path(".dvc/cache/files/md5", name[:2], name[2:])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(path.read_bytes())
    place.chmod(0o444)
    return name


def change(path: Path | str) -> None:
    path = Path(path)
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    sums.forget_hashes()


def test_nothing_is_damaged(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([]) == 0
    assert "9 files" in (said := capsys.readouterr().out) and "none damaged" in said


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (f".store/rollouts/ab/{KEY}/rollouts.parquet", "rm -r .store/rollouts/ab"),
        ("data/index/scores", "rm -f data/index/scores data/index/files.sha256; dvc repro"),
        ("data/index/files.sha256", "data/index/files.sha256"),
        ("metrics/train/s1.json", "is not what dvc.lock says"),
        (".dvc/cache", "an object in DVC's cache that does not match its name"),
    ],
)
def test_what_is_damaged_is_named_and_set_aside(
    project: Path, file: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(file)
    if path.is_dir():
        path = next(path for path in sorted(project.glob(".dvc/cache/files/md5/??/*")))
    change(path)
    assert verify.main([]) == 1
    printed = capsys.readouterr().out
    assert "damaged: " in printed and said in printed and sums.REPAIR in printed
    assert path.exists()
    assert verify.main(["--repair"]) == 1
    assert not path.exists() and Store().damaged()
    sums.forget_hashes()
    capsys.readouterr()
    assert verify.main([]) == 0
    assert "set aside as damaged" in capsys.readouterr().out


def test_the_listing_of_a_folder_that_is_damaged_is_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [listing] = project.glob(".dvc/cache/files/md5/??/*.dir")
    change(listing)
    assert verify.main([]) == 1
    assert listing.name in capsys.readouterr().out


def test_an_artefact_without_sums_is_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (Store().place("rollouts", KEY) / sums.SUMS_FILE).unlink()
    assert verify.main([]) == 0
    assert "1 artefacts are too old to have checksums" in capsys.readouterr().out


def test_a_record_of_searches_that_is_cut_off_is_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Store().root / "searches" / "searches.sqlite"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("create table searches (query text)")
        database.executemany("insert into searches values (?)", [("query " * 100,)] * 200)
        database.commit()
    assert verify.main([]) == 0
    path.write_bytes(path.read_bytes()[:-5000])
    assert verify.main(["--repair"]) == 1
    assert "a damaged database" in capsys.readouterr().out and not path.exists()


@pytest.mark.slow
def test_a_broken_lock_is_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("stages: {a", "[" * 2_000, "stages: [3]", "stages: {a: {outs: [{}]}}", "stages: {a: 2020-99-99}"):
        Path("dvc.lock").write_text(text)
        assert verify.main([]) == 2
        assert "dvc.lock: cannot be read" in capsys.readouterr().err


def test_a_project_where_nothing_was_made_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "cache_folder", lambda: tmp_path / "none")
    assert verify.main([]) == 0


def test_single_files_with_a_sum_beside_them(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("data/mixes/hard.json")
    with sums.checksum_after(path):
        write_json(path, {"a": 1})
    outs = [{"path": str(one), "md5": md5(one)} for one in (path, sums.checksum_path(path))]
    Path("dvc.lock").write_text(json.dumps({"stages": {"mix@hard": {"outs": outs}}}))
    assert verify.main([]) == 0
    change(path)
    assert verify.main([]) == 1
    said = capsys.readouterr().out
    assert said.count("damaged: ") == 1 and f"rm -f {path} {sums.checksum_path(path)}; dvc repro" in said
    assert verify.main(["--repair"]) == 1
    assert not path.exists() and not sums.checksum_path(path).exists()
