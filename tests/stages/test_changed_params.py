"""A user's changes to params.yaml make no test fail: tests read the built-in parameters (ensured by tests/conftest.py),
and the one file that checks the user's own is run here after nine ordinary changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from r1_searcher.params import SHIPPED, parse

ROOT = Path(__file__).resolve().parents[2]
FILE = "tests/unit/test_dvc_yaml.py"
CHANGES = {
    "seed": 7,
    "index.stemmer": "english",
    "rollout.k": 3,
    "reward.answer_metric": "cover_em",
    "update.estimator": "grpo",
    "update.kl_coefficient": 0.001,
    "train.stage1.learning_rate": 3e-4,
    "train.stage2.learning_rate": 3e-4,
    "evaluate.k": 3,
}


def changed() -> str:
    """Return the built-in params.yaml with ``CHANGES``, each in its line, as an editor leaves it."""
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    path: dict[int, str] = {}
    left = dict(CHANGES)
    for number, line in enumerate(lines):
        if (match := re.match(r"( *)([a-z_0-9]+):", line)) is None:
            continue
        depth = len(match[1]) // 2
        path = {level: key for level, key in path.items() if level < depth} | {depth: match[2]}
        if (name := ".".join(path.values())) in left:
            lines[number] = f"{match[0]} {left.pop(name)}"
    assert not left
    return "\n".join(lines) + "\n"


def test_the_changes_are_changes() -> None:
    before, after = yaml.safe_load(SHIPPED.read_text(encoding="utf-8")), yaml.safe_load(changed())
    for name, value in CHANGES.items():
        one, other = before, after
        for key in name.split("."):
            one, other = one[key], other[key]
        assert other == value != one, name
    parse(changed())


def test_dvc_yaml_is_as_it_should_be_after_nine_ordinary_changes(tmp_path: Path) -> None:
    for name in ("r1_searcher", "stages", "flows", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    for name in ("dvc.yaml", "pyproject.toml", "tests/conftest.py", FILE):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "params.yaml").write_text(changed(), encoding="utf-8")
    # Except the one that checks copies, which takes longest and reads no params.yaml.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", FILE, "-k", "not nobody_chose"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_test_that_reads_the_users_parameters_fails(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 0\n")
    with pytest.raises(AssertionError, match=r"reads the user's own params\.yaml"):
        (ROOT / "params.yaml").read_text(encoding="utf-8")
    with pytest.raises(AssertionError, match="reads the user's own"):
        shutil.copy(ROOT / "params.yaml", tmp_path)
