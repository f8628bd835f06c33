"""A DVC remote, by the very commands of docs/remotes.md: one clone pushes, another pulls and evaluates."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tiny_policy import questions_table
from tiny_project import make_project

from stages.contract.artefacts import read_json, write_table

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/remotes.md").read_text(encoding="utf-8")
NOT_HERE = ("make setup", "source .venv/bin/activate")  # the tests' own environment is used
# Its command fails: where anything was made anew, the test would end.
STAGES = """
stages:
  train:
    cmd: "false"
    outs: [data/corpus, data/index, data/questions, data/train/s2-00/policy]
"""


def block(opening: str) -> list[str]:
    """The commands of the page's block that begins with ``opening``."""
    [found] = [part for part in re.findall(r"(?:^    .+\n)+", PAGE, re.MULTILINE) if part.strip().startswith(opening)]
    return [line.strip() for line in found.splitlines() if line.strip() not in NOT_HERE]


def run(place: Path, lines: list[str], **words: str) -> str:
    """What the lines say, run one after the other; the page's placeholders are replaced by ``words``."""
    script = "\n".join(" ".join(words.get(word, word) for word in line.split(" ")) for line in lines)
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DVC_SITE_CACHE_DIR": str(place.parent / "site"),
        "DVC_NO_ANALYTICS": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    variables |= {
        f"GIT_{who}_{what}": "tests@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["bash", "-euc", script], cwd=place, env=os.environ | variables, capture_output=True, text=True, check=False
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
    run(tmp_path, block("git clone"), ADDRESS=shlex.quote(str(first)))

    second = tmp_path / "searcher"
    names = {str(file.relative_to(first)) for file in (first / "data").rglob("*") if file.is_file()}
    assert len(names) > 8
    assert all((second / name).read_bytes() == (first / name).read_bytes() for name in names)
    assert read_json(second / "again.json")["again"]["held_out"]["n"] == 2
    assert "up to date" in run(second, ["dvc repro"])
