"""Inputs linked into a workspace: how DVC treats them, and a corpus that is killed in a workspace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import worktrees
from r1_searcher import params
from r1_searcher.corpus import resume
from r1_searcher.files.store import Store
from stages.corpus.run import run

ROOT = Path(__file__).resolve().parents[2]
BASE = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout under git and DVC, with one stage that reads ``inputs/corpus``, and a user's file there."""
    place = tmp_path / "checkout"
    (place / "inputs" / "corpus").mkdir(parents=True)
    (place / "inputs" / "corpus" / ".gitkeep").touch()
    (place / "params.yaml").write_text(BASE)
    (place / ".gitignore").write_text("/.workspaces/\n/.store/\n")
    stage = {"cmd": "cat inputs/corpus/mine.jsonl >> made.txt", "deps": ["inputs/corpus"]}
    stage["outs"] = [{"made.txt": {"persist": True}}]  # type: ignore[list-item]
    (place / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"corpus": stage}}))
    own = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], ["git", "add", "."]):
        subprocess.run(command, cwd=place, check=True)
    subprocess.run([*own, "commit", "-qm", "base"], cwd=place, check=True)
    lines = [json.dumps({"title": "T", "text": f"text {number}"}) for number in range(40)]
    (place / "inputs" / "corpus" / "mine.jsonl").write_text("\n".join(lines) + "\n")
    return place


@pytest.mark.slow
def test_dvc_hashes_what_is_behind_a_link_and_sees_it_change(checkout: Path) -> None:
    workspace = checkout / ".workspaces" / "mine"
    given = checkout / "inputs" / "corpus" / "mine.jsonl"

    def repro() -> str:
        """Return what the stage has written so far, after a start."""
        worktrees.prepare_workspace(workspace, BASE, checkout)
        worktrees.run_workspace(workspace, checkout)
        return (workspace / "made.txt").read_text()

    first = given.read_text()
    assert repro() == first
    assert repro() == first  # nothing changed, nothing is recomputed
    with open(given, "a") as file:  # in place
        file.write("more\n")
    second = given.read_text()
    assert repro() == first + second
    changed = given.with_name("changed")
    changed.write_text("other\n")
    os.replace(changed, given)
    assert repro() == first + second + "other\n"
    assert given.stat().st_nlink == 1 and os.access(given, os.W_OK)
    given.with_name("second.jsonl").write_text("one more")
    assert repro().endswith("other\nother\n")
    given.with_name("second.jsonl").unlink()
    repro()
    assert given.read_text() == "other\n"


def test_a_corpus_that_is_killed_in_a_workspace_goes_on_at_the_next_start(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = checkout / ".workspaces" / "mine"
    monkeypatch.setenv("R1SEARCHER_STORE", str(checkout / ".store"))
    files = {"source": "files", "files": ["inputs/corpus/mine.jsonl"], "rows_a_part": 10}
    corpus = params.parse(BASE).corpus.model_copy(update=files)
    kept, keep = [], resume.Parts.keep

    def keep_two(self: resume.Parts, part: Path, entry: dict[str, object]) -> None:
        keep(self, part, entry)
        kept.append(entry)
        if len(kept) == 2:
            raise KeyboardInterrupt

    def start() -> None:
        worktrees.prepare_workspace(workspace, BASE, checkout)
        monkeypatch.chdir(workspace)
        run(corpus, 0, Path("data/corpus"))

    with monkeypatch.context() as patch:
        patch.setattr(resume.Parts, "keep", keep_two)
        with pytest.raises(KeyboardInterrupt):
            start()
    assert len(Store().entries()) == 2

    def keep_and_note(self: resume.Parts, part: Any, entry: Any) -> None:
        kept.append(entry)
        keep(self, part, entry)

    monkeypatch.setattr(resume.Parts, "keep", keep_and_note)
    start()
    assert len(kept) == 4  # two before, the other two now: nothing was made twice
