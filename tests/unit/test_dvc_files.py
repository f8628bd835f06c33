"""DVC's own files after a kill: a damaged lock is restored, and locks of killed runs are released."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml

from flows import dvc_files
from r1_searcher.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]
WHOLE = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))
# Only some of its stages: parsing is slow.
SOME = {name: stage for name, stage in WHOLE["stages"].items() if name in ("corpus", "base_model", "train@s1-00")}
GOOD = dumps_yaml(WHOLE | {"stages": SOME})
ENTRY = {"cmd": "true", "outs": [{"path": "made", "hash": "md5", "md5": "0" * 32, "size": 1}]}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project under git with an intact committed lock, whose outputs are in the cache."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "dvc.lock").write_text(GOOD)
    for stage in yaml.safe_load(GOOD)["stages"].values():
        for out in stage["outs"]:
            place = tmp_path / ".dvc" / "cache" / "files" / "md5" / out["md5"][:2] / out["md5"][2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    for words in ("init -q", "add dvc.lock dvc.yaml", "-c user.name=t -c user.email=t@t commit -qm base"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    return tmp_path


CUT = GOOD.index("md5: ", len(GOOD) // 2) + 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        ("", "empty"),
        ("\0" * 4096, "cut off"),
        (GOOD[:CUT], "cut off"),
        (GOOD[: GOOD.index("hash:") + 2] + "\n", "not YAML"),
        ("schema: '2.0'\nstages:\n  corpus:\n    cmd\n", "not what DVC writes"),
        ("- a list\n", "not what DVC writes"),
        ("schema: '2.0'\nstages: 3\n", "not what DVC writes"),
    ],
    ids=["empty", "zeros", "in a hash", "in a key", "no command", "a list", "a number"],
)
def test_a_damaged_lock_is_restored_with_one_line(project: Path, damaged: str, why: str) -> None:
    for source in ("git", "the copy of the last run"):
        (project / "dvc.lock").write_text(damaged)
        said: list[str] = []
        dvc_files.mend(project, said.append)
        assert len(said) == 1 and why in said[0] and f"restored from {source}" in said[0]
        assert (project / "dvc.lock").read_text() == GOOD
        assert (project / dvc_files.DAMAGED_LOCK).read_text() == damaged  # nothing is discarded
        dvc_files.mend(project, said.append)
        assert len(said) == 1  # once
        dvc_files.keep(project)


def test_the_newest_whole_copy_is_taken(project: Path) -> None:
    newer = GOOD.replace("seed: 0", "seed: 1")
    (project / "dvc.lock").write_text(newer)
    dvc_files.keep(project)
    (project / "dvc.lock").write_text("")
    dvc_files.keep(project)  # a damaged one never replaces the copy
    dvc_files.mend(project)
    assert (project / "dvc.lock").read_text() == newer != GOOD


def test_without_any_copy_the_lock_is_made_anew(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["git", "rm", "-q", "--cached", "dvc.lock"], cwd=project, check=True)
    subprocess.run("git -c user.name=t -c user.email=t@t commit -qm gone".split(), cwd=project, check=True)
    (project / "dvc.lock").write_text("")
    dvc_files.mend(project)
    assert not (project / "dvc.lock").exists()
    assert "made again" in capsys.readouterr().out
    dvc_files.mend(project)  # a missing one is a fresh start
    assert capsys.readouterr().out == ""


def test_a_restored_lock_names_only_what_can_be_had(project: Path) -> None:
    """A stage that DVC considers unchanged but cannot check out would run, though the run cache has it."""
    lost = yaml.safe_load(GOOD)["stages"]["base_model"]["outs"][0]["md5"]
    (project / ".dvc" / "cache" / "files" / "md5" / lost[:2] / lost[2:]).unlink()
    (project / "dvc.lock").write_text("")
    dvc_files.mend(project)
    assert set(yaml.safe_load(GOOD)["stages"]) - set(yaml.safe_load((project / "dvc.lock").read_text())["stages"]) == {
        "base_model"
    }


def test_an_output_in_its_place_counts_where_it_is_the_right_one(tmp_path: Path) -> None:
    text = dumps_yaml({"schema": "2.0", "stages": {"one": ENTRY}})
    assert "one" not in dvc_files.only_cached(text, tmp_path, tmp_path)
    (tmp_path / "made").write_text("other bytes")
    assert "one" not in dvc_files.only_cached(text, tmp_path, tmp_path)
    (tmp_path / "made").write_bytes(b"")
    right = text.replace("0" * 32, "d41d8cd98f00b204e9800998ecf8427e")
    assert dvc_files.only_cached(right, tmp_path, tmp_path) == right


def test_a_metric_that_git_brought_is_put_into_the_cache(tmp_path: Path) -> None:
    right = dumps_yaml({"schema": "2.0", "stages": {"one": ENTRY}}).replace(
        "0" * 32, "d41d8cd98f00b204e9800998ecf8427e"
    )
    cache, checkout = tmp_path / "cache", tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "made").write_text("other bytes")
    dvc_files.add_files(right, cache, checkout)
    assert not list(cache.rglob("*")) and "one" not in dvc_files.only_cached(right, cache)
    (checkout / "made").write_bytes(b"")
    for _ in range(2):
        dvc_files.add_files(right, cache, checkout)
        assert dvc_files.only_cached(right, cache) == right
        assert (cache / "files/md5/d4/1d8cd98f00b204e9800998ecf8427e").stat().st_mode & 0o777 == 0o444


def test_a_lock_that_dvc_is_writing_is_waited_for(project: Path) -> None:
    (project / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
    writing = (
        "import sys, time, zc.lockfile as l; h = l.LockFile('.dvc/tmp/lock'); open('dvc.lock', 'w').close(); "
        "print(flush=True); sys.stdin.read(); open('dvc.lock', 'w').write(open('whole').read()); h.close()"
    )
    (project / "whole").write_text(GOOD)
    command = [sys.executable, "-c", writing]
    with subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dvc:
        assert dvc.stdin is not None and dvc.stdout is not None
        dvc.stdout.readline()
        dvc_files.keep(project)  # does not wait, and keeps nothing
        assert not (project / dvc_files.KEPT).exists()
        waiting = subprocess.Popen(
            [sys.executable, "-c", "from flows import dvc_files as d; from pathlib import Path; "
             f"print('began', flush=True); d.mend(Path({str(project)!r}))"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stdout is not None
        waiting.stdout.readline()
        dvc.stdin.close()
        assert waiting.communicate(timeout=60)[0] == ""  # intact again when it looked
    assert not (project / dvc_files.DAMAGED_LOCK).exists()


@pytest.mark.parametrize("text", ["", '{"write": {"/a": {"pid"', "[]", '{"read": {"/a": [{}]}}'])
def test_a_half_written_list_of_readers_is_removed(project: Path, text: str) -> None:
    place = project / ".dvc" / "tmp" / "rwlock"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    dvc_files.mend(project)
    assert not place.exists()


def test_readers_that_are_gone_are_let_go_and_running_ones_are_not(project: Path) -> None:
    place = project / ".dvc" / "tmp" / "rwlock"
    place.parent.mkdir(parents=True, exist_ok=True)

    def hold(process: int) -> None:
        entry = {"pid": process, "cmd": "dvc repro"}
        place.write_text(json.dumps({"write": {"/data": entry}, "read": {"/other": [entry]}}))
        dvc_files.mend(project)

    gone = subprocess.Popen(["true"])
    gone.wait()
    hold(gone.pid)
    assert not place.exists()
    hold(os.getpid())  # the process id is another program's now
    assert not place.exists()
    running = subprocess.Popen([sys.executable, "-c", "input()", "dvc", "repro"], stdin=subprocess.PIPE)
    try:
        hold(running.pid)
        assert place.exists()
    finally:
        running.communicate(b"\n")


def test_the_site_cache_is_in_the_checkout_and_its_owners_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with `source .venv/bin/activate; dvc repro`: no variable is set."""
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    monkeypatch.chdir(project)
    (project / ".dvc" / "config").touch()
    mine = "['remote \"mine\"']\n    url = /somewhere/else%20\n[core]\n    remote = mine\n"
    (project / ".dvc" / "config.local").write_text(mine)
    assert dvc_files.main([]) == 0
    assert capsys.readouterr().out == ""
    before = (project / ".dvc" / "config.local").stat()
    assert dvc_files.main([]) == 0
    assert (project / ".dvc" / "config.local").stat().st_ino == before.st_ino  # left alone

    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        found = Path(repo.site_cache_dir)
        assert repo.config["core"]["remote"] == "mine"
        assert repo.config["remote"]["mine"]["url"].endswith("/somewhere/else%20")
    assert found.is_relative_to(project / ".dvc" / "tmp" / "site")
    assert (project / ".dvc" / "tmp" / "site").stat().st_mode & 0o077 == 0


def test_settings_that_cannot_be_read_are_one_line(project: Path) -> None:
    (project / ".dvc" / "config.local").write_text("[core\n")
    with pytest.raises(PipelineError, match=r"config\.local: not DVC's settings.*fix or remove it"):
        dvc_files.settings(project, state=project / "site")


@pytest.mark.slow
def test_a_copy_without_git_is_told_what_makes_it_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    assert dvc_files.main([]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "is not under git" in line and "dvc config --local core.no_scm true" in line
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    assert dvc_files.main([]) == 0
    assert subprocess.run([sys.executable, "-m", "dvc", "status"], check=False).returncode == 0
