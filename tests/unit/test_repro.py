"""Which output of `dvc repro` `make train` lets through, and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FAKE = """\
import sys
print("Running stage 'a':\\n> cmd\\n\\na line of the stage\\nUpdating lock file 'dvc.lock'\\n")
print("To track the changes with git, run:\\n\\n\\tgit add dvc.lock\\n")
print("To enable auto staging, run:\\n\\n\\tdvc config core.autostage true")
print("Use `dvc push` to send your updates to remote storage.")
print("error of the stage", file=sys.stderr)
sys.exit(3)
"""


def test_advice_is_left_out_and_the_status_is_dvcs(tmp_path: Path) -> None:
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc/__init__.py").touch()
    (tmp_path / "dvc/__main__.py").write_text(FAKE)
    done = subprocess.run(
        [sys.executable, "-m", "flows.repro"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "Running stage 'a':\n> cmd\n\na line of the stage\nUpdating lock file 'dvc.lock'\n\n"
    assert (done.stderr, done.returncode) == ("error of the stage\n", 3)


def test_make_train_runs_it() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ntrain:")[2].partition("\nplan:")[0]
    assert "-m flows.repro" in recipe and "dvc repro" not in recipe
