"""DVC, really killed while it writes dvc.lock: the same command goes on, and no finished stage runs again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from flows import dvc_files, worktrees

ROOT = Path(__file__).resolve().parents[2]
STAGE = """\
  {name}:
    cmd: echo {name} >> ran.txt && mkdir -p data && cat {needs} > data/{name}
    deps: [{needs}]
    outs: [data/{name}]
"""
# DVC unchanged, except for a stop while it writes dvc.lock with the entry of the stage `two`.
PAUSING = """
import io, sys, time
from pathlib import Path
from ruamel.yaml import YAML

dump = YAML.dump

def pausing(self, data, stream=None, **options):
    if Path(getattr(stream, "name", "")).name == "dvc.lock" and "two" in data["stages"]:
        text = io.StringIO()
        dump(self, data, text, **options)
        Path("whole").write_text(text.getvalue())
        stream.write(text.getvalue()[: int(SHARE * len(text.getvalue()))])
        stream.flush()
        print("in the middle", flush=True)
        time.sleep(600)
    return dump(self, data, stream, **options)

YAML.dump = pausing
from dvc.cli import main
sys.exit(main(["repro", "--quiet"]))
"""


def by_make() -> None:
    """Return the lines of the target `train`."""
    for command in (("flows.dvc_files",), ("dvc", "repro"), ("flows.dvc_files",)):
        subprocess.run([sys.executable, "-m", *command], check=True, timeout=120)


def by_workspace() -> None:
    """As profiles and scheduled runs do."""
    worktrees.run_workspace(Path.cwd(), Path.cwd())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project without stages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / ".dvc/tmp/site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    Path("seed").write_text("0")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("share", "again", "kept"),
    [(0.0, by_make, False), (0.6, by_workspace, True)],
    ids=["empty, in the first run, make", "cut, in a later run, workspace"],
)
def test_dvc_killed_while_it_writes_its_lock(
    project: Path, capfd: pytest.CaptureFixture[str], share: float, again: Callable[[], None], kept: bool
) -> None:
    one, two = STAGE.format(name="one", needs="seed"), STAGE.format(name="two", needs="data/one")
    if kept:
        Path("dvc.yaml").write_text(f"stages:\n{one}")
        again()
    Path("dvc.yaml").write_text(f"stages:\n{one}{two}")

    with subprocess.Popen(
        [sys.executable, "-c", f"SHARE = {share}\n{PAUSING}"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as dvc:
        assert dvc.stdout is not None and dvc.stdout.readline() == "in the middle\n"
        os.killpg(dvc.pid, signal.SIGKILL)
    whole, damaged = Path("whole").read_text(), Path("dvc.lock").read_text()
    assert whole.startswith(damaged) and len(damaged) == int(share * len(whole)) < len(whole)

    capfd.readouterr()
    again()
    said = capfd.readouterr().out
    assert f"dvc.lock was damaged ({'cut off' if damaged else 'empty'}) and is" in said
    assert ("restored from the copy of the last run" if kept else "made again") in said
    assert parse_yaml(Path("dvc.lock").read_text(), "dvc.lock") == parse_yaml(whole, "whole")
    assert Path("ran.txt").read_text() == "one\ntwo\n"
    assert (project / dvc_files.DAMAGED_LOCK).read_text() == damaged
