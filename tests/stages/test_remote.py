"""A DVC remote, with the very commands of docs/remotes.md: one clone pushes, another pulls and evaluates."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_policy import questions_table
from tiny_project import make_project

from flows import worktrees
from r1_searcher.files.artefacts import read_json, write_table
from r1_searcher.params import profiles

ROOT = Path(__file__).resolve().parents[2]
BASE = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/remotes.md").read_text(encoding="utf-8")
NOT_HERE = ("make setup", "source .venv/bin/activate")  # the tests' own environment is used
# Its command fails: if anything were recomputed, the test would end.
STAGES = """
stages:
  train:
    cmd: "false"
    outs: [data/corpus, data/index, data/questions, data/train/s2-00/policy]
"""


def block(opening: str) -> list[str]:
    """Return the commands of the page's block that begins with ``opening``."""
    [found] = [part for part in re.findall(r"(?:^    .+\n)+", PAGE, re.MULTILINE) if part.strip().startswith(opening)]
    return [line.strip() for line in found.splitlines() if line.strip() not in NOT_HERE]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of commands, whose caches beside the repositories are in ``folder``."""
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "DVC_NO_ANALYTICS": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    names = {f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return own | dict.fromkeys(names, "tests@localhost")


def run(place: Path, lines: list[str], **words: str) -> str:
    """Run the lines one after the other, with ``words`` for the page's placeholders."""
    script = "\n".join(" ".join(words.get(word, word) for word in line.split(" ")) for line in lines)
    variables = os.environ | environment(place.parent)
    done = subprocess.run(
        ["bash", "-euc", script], cwd=place, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_another_clone_pulls_and_evaluates_without_training(tmp_path: Path) -> None:
    first = make_project(tmp_path / "first", {})
    (first / "data/train/s2-00").mkdir(parents=True)
    (first / "data/base_model").rename(first / "data/train/s2-00/policy")
    write_table(first / "data/questions/held_out.parquet", questions_table(["Who is Ada?", "Who is Bo?"]))
    (first / "metrics").mkdir()
    (first / "metrics/evaluation.json").write_text("{}\n")
    (first / "dvc.yaml").write_text(STAGES)
    (first / ".gitignore").write_text("/data/\n")
    run(first, ["git init -q", "dvc init -q", "dvc commit -q --force", "git add .", "git commit -q -m begun"])

    remote = str(tmp_path / "remote")
    run(first, block("dvc remote add"), **{"/path": shlex.quote(remote)})
    run(tmp_path, block("git clone ADDRESS"), ADDRESS=shlex.quote(str(first)))

    second = tmp_path / "searcher"
    names = {str(file.relative_to(first)) for file in (first / "data").rglob("*") if file.is_file()}
    assert len(names) > 8
    assert all((second / name).read_bytes() == (first / name).read_bytes() for name in names)
    assert read_json(second / "again.json")["again"]["held_out"]["n"] == 2
    assert "up to date" in run(second, ["dvc repro"])


# --- workspaces, against a real cache

COUNTED = """
stages:
  base_model:
    cmd: echo base_model >> {log}; mkdir -p data/base_model; grep -A1 ^base_model params.yaml > data/base_model/weights
    params: [base_model.source]
    outs: [data/base_model]
  train:
    cmd: echo train >> {log}; mkdir -p data/train metrics; cp -r data/base_model data/train; echo 1 >metrics/f1.json
    deps: [data/base_model]
    params: [seed]
    outs: [data/train]
    metrics:
      - metrics/f1.json: {{cache: false}}
"""


def counting(place: Path, log: Path) -> Path:
    """A repository whose two stages record their runs in ``log``."""
    place.mkdir()
    for name, text in {
        "params.yaml": BASE,
        "dvc.yaml": COUNTED.format(log=log),
        ".gitignore": "/data/\n/.workspaces/\n/.store/\n/.prefect/\n",
    }.items():
        (place / name).write_text(text, encoding="utf-8")
    run(place, ["git init -q", "dvc init -q", "git add .", "git commit -q -m begun"])
    return place


def in_workspace(checkout: Path, name: str, *changes: str) -> Path:
    """Do what `make train PROFILE=…` does, with ``changes`` as the profile."""
    text = profiles.composed(BASE, [("--set", profiles.assignment(change)) for change in changes])
    folder = checkout / ".workspaces" / name
    worktrees.prepare_workspace(folder, text, checkout)
    worktrees.run_workspace(folder, checkout)
    return folder


@pytest.mark.slow
def test_a_workspace_makes_nothing_again_that_the_cache_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all no base model: neither if the checkout's lock is not committed, nor in a clone that has pulled. What
    was made in a workspace reaches another clone by its own branch, as docs/remotes.md says, and only so."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    log = tmp_path / "log"

    def ran() -> list[str]:
        """Return the stages that ran since the last call."""
        found = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    first = counting(tmp_path / "first", log)
    run(first, ["dvc repro"])
    assert ran() == ["base_model", "train"]
    in_workspace(first, "same")  # HEAD has no dvc.lock
    assert ran() == []
    mine = in_workspace(first, "mine", "base_model.source=inputs/base_model")
    assert ran() == ["base_model", "train"]

    remote, address = shlex.quote(str(tmp_path / "remote")), shlex.quote(str(first))
    run(first, block("dvc remote add"), **{"/path": remote})
    run(first, ["dvc push --run-cache"])
    run(tmp_path, ["git clone -q ADDRESS second", "cd second", "dvc pull --run-cache"], ADDRESS=address)
    second = tmp_path / "second"
    in_workspace(second, "same")
    assert ran() == []
    in_workspace(second, "seed2", "seed=2")
    assert ran() == ["train"]
    in_workspace(second, "mine", "base_model.source=inputs/base_model")
    assert ran() == ["base_model", "train"]  # the history of runs is there, their outputs are not

    in_workspace(first, "mine", "base_model.source=inputs/base_model")  # it belongs to an older commit
    run(first, block("cd .workspaces/NAME"), **{".workspaces/NAME": ".workspaces/mine"})
    said = run(tmp_path, block("git clone --branch"), ADDRESS=address)
    third = tmp_path / "searcher-NAME"
    assert (third / "data/base_model/weights").read_bytes() == (mine / "data/base_model/weights").read_bytes()
    assert "up to date" in said and ran() == []
