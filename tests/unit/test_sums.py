"""Checksums beside what was written: of a folder's files, of its sub-folders, and where they are checked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.files import sums
from r1_searcher.files.artefacts import (
    atomic,
    read_json,
    read_metadata,
    read_table,
    sha256_tree,
    write_json,
    write_table,
)
from r1_searcher.files.weights import check_policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "output"
    with atomic(place, folder=True) as draft:
        write_table(draft / "table.parquet", pa.table({"a": [1, 2, 3]}))
        write_json(draft / "below" / "settings.json", {"k": 5})
        (draft / ".hidden").write_text("of somebody else's")
    return place


def damage(file: Path, content: bytes | None = None) -> None:
    """Change the first byte; same size, same times."""
    before = file.stat()
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 4]) + whole[1:] if content is None else content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    sums.forget_hashes()


def test_a_folder_written_whole_has_sums_that_coreutils_understands(folder: Path) -> None:
    assert [line[66:] for line in (folder / sums.SUMS_FILE).read_text().splitlines()] == [
        "below/settings.json",
        "table.parquet",
    ]
    run = subprocess.run(
        ["sha256sum", "--check", "--strict", sums.SUMS_FILE], cwd=folder, capture_output=True, check=False
    )
    assert run.returncode == 0, run
    assert sums.check(folder)


def test_the_sums_are_no_part_of_what_names_a_folder(folder: Path) -> None:
    before = sha256_tree(folder)
    (folder / sums.SUMS_FILE).unlink()
    assert sha256_tree(folder) == before


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("table.parquet", read_table),
        ("table.parquet", read_metadata),
        ("below/settings.json", read_json),
        ("table.parquet", sha256_tree),
        ("table.parquet", lambda path: sha256_tree(path.parent)),
    ],
)
def test_what_is_not_what_was_written_is_not_read(folder: Path, name: str, read: object) -> None:
    assert callable(read)
    read(folder / name)
    damage(folder / name)
    with pytest.raises(sums.Damaged, match=rf"{name}: its sha256 is .* was written .*verify --repair") as error:
        read(folder / name)
    assert error.value.file == folder / name and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-10], "truncated"),
        (lambda text: text[: text.index(b"\n") + 1], "is not in files.sha256"),
        (lambda text: b"", "is not in files.sha256"),
        (lambda text: text.upper(), "not a list of sha256 sums"),
        (lambda text: text.replace(b"table", b"tible"), "is not in files.sha256|is missing"),
        (lambda text: text[:5] + (b"0" if text[5:6] != b"0" else b"1") + text[6:], "its sha256 is"),
        (lambda text: b"\xff" + text, "not a list of sha256 sums"),
    ],
)
def test_damaged_sums_are_found_too(folder: Path, change: object, said: str) -> None:
    assert callable(change)
    damage(folder / sums.SUMS_FILE, change((folder / sums.SUMS_FILE).read_bytes()))
    with pytest.raises(sums.Damaged, match=said):
        sums.check(folder)


def test_missing_and_foreign_files_are_named(folder: Path) -> None:
    (folder / "foreign.json").write_text("{}")
    with pytest.raises(sums.Damaged, match=r"foreign\.json: is not in files\.sha256"):
        sums.check(folder)
    with pytest.raises(sums.Damaged, match=r"foreign\.json: is not in files\.sha256"):
        read_json(folder / "foreign.json")
    (folder / "foreign.json").unlink()
    (folder / "table.parquet").unlink()
    with pytest.raises(sums.Damaged, match=r"table\.parquet: is missing"):
        sums.check(folder)


def test_a_folder_in_a_folder_is_hashed_once_and_checked_with_it(tmp_path: Path) -> None:
    outer = tmp_path / "checkpoint"
    with atomic(outer, folder=True) as draft, atomic(draft / "policy", folder=True) as inner:
        (inner / "weights").write_bytes(b"1" * 100)
    assert [line[66:] for line in (outer / sums.SUMS_FILE).read_text().splitlines()] == [f"policy/{sums.SUMS_FILE}"]
    damage(outer / "policy" / "weights")
    with pytest.raises(sums.Damaged, match="weights: its sha256 is"):
        sums.check(outer)


def test_a_draft_beside_a_folder_with_sums_is_none_of_theirs(folder: Path) -> None:
    with atomic(folder / "new", folder=True) as draft:
        write_json(draft / "a.json", 1)
        assert read_json(draft / "a.json") == 1
    assert read_json(folder / "new" / "a.json") == 1
    assert sums.check(folder)  # a sub-folder has its own checksums


def test_without_sums_everything_is_read_as_it_stands(tmp_path: Path) -> None:
    write_json(tmp_path / "plain.json", 1)
    damage(tmp_path / "plain.json", b"2")
    assert read_json(tmp_path / "plain.json") == 2
    assert not sums.check(tmp_path)


def test_a_file_is_read_once_in_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    hashed = sums._hashed

    def note(path: Path) -> str:
        read.append(path)
        return hashed(path)

    monkeypatch.setattr(sums, "_hashed", note)
    for file in folder.rglob("*.*"):
        os.utime(file, (1, 1))  # not changed just now
    for _ in range(3):
        sums.check(folder)
    assert len(read) == 2
    os.rename(folder / "table.parquet", folder / "again.parquet")
    assert sums.sha256_file(folder / "again.parquet") and len(read) == 2
    damage(folder / "again.parquet")
    sums.sha256_file(folder / "again.parquet")
    assert len(read) == 3


def test_many_large_files_give_the_same_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "_LARGE", 10)
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * 1000)
    sums.write(tmp_path)
    run = subprocess.run(
        ["sha256sum", "--check", "--quiet", sums.SUMS_FILE], cwd=tmp_path, capture_output=True, check=False
    )
    assert run.returncode == 0, run


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "manifest.json"])
def test_a_policy_is_what_was_written(tmp_path: Path, name: str) -> None:
    policy = tmp_path / "policy"
    with atomic(policy, folder=True) as draft:
        (draft / "model.safetensors").write_bytes(b"weights" * 9)
        write_json(draft / "config.json", {})
        write_json(draft / "manifest.json", {"sha256": "0", "parent": None, "step": 1})
    check_policy(policy)
    damage(policy / name)
    with pytest.raises(sums.Damaged, match=name):
        check_policy(policy)
    if name == "model.safetensors":
        check_policy(policy, weights=False)  # opening the tokenizer alone does not read gigabytes


def test_a_policy_without_sums_is_held_against_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    check_policy(tmp_path)  # from elsewhere, without a manifest
    write_json(tmp_path / "manifest.json", {"sha256": "0" * 64, "parent": None, "step": 1})
    with pytest.raises(PipelineError, match=r"the weights' sha256 is .*, not 000000000000 as manifest\.json says"):
        check_policy(tmp_path)
    content = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(content[:30])
    with pytest.raises(PipelineError, match=r"manifest\.json: not JSON: .* \(.*`dvc repro` restores it\)$"):
        check_policy(tmp_path)
    check_policy("some/name-of-a-hub")


def test_whatever_pyarrow_says_of_a_file_names_it(tmp_path: Path) -> None:
    """Flipped bytes of a table without checksums raise half a dozen kinds of error; each becomes one line."""
    path = tmp_path / "table.parquet"
    write_table(path, pa.table({"a": ["some text", "more"] * 50, "b": list(range(100))}))
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            read_table(path)
        except PipelineError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            assert str(error).endswith("`dvc repro` restores it)")
            refused += 1
    assert refused > 10


def test_a_single_file_has_its_sum_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mixes" / "hard.parquet"
    with sums.checksum_after(path):
        write_table(path, pa.table({"a": [1]}))
    text = sums.checksum_path(path).read_text()
    assert text == f"{sums.sha256_file(path)}  hard.parquet\n" and sums.check_file(path)
    write_json(tmp_path / "mixes" / "other.json", {})
    assert not sums.check_file(tmp_path / "mixes" / "other.json")  # not ours, or older: used unchecked
    damage(path)
    for read in (read_table, sha256_tree):
        with pytest.raises(sums.Damaged, match=r"hard\.parquet: its sha256 is .* remove hard\.parquet\.sha256\)"):
            read(path)
    path.unlink()
    with pytest.raises(sums.Damaged, match="is missing"):
        read_table(path)
    sums.checksum_path(path).write_text(text[:30])
    with pytest.raises(sums.Damaged, match=r"hard\.parquet\.sha256: is not the sha256 sum"):
        read_table(path)


def test_a_single_file_whose_writing_was_killed_has_no_sum(tmp_path: Path) -> None:
    path = tmp_path / "labelled.json"
    with sums.checksum_after(path):
        write_json(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt), sums.checksum_after(path):
        write_json(path, {"a": 2})
        raise KeyboardInterrupt
    assert not sums.checksum_path(path).exists() and read_json(path) == {"a": 2}
