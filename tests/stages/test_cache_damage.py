"""DVC checks out a damaged object of its cache silently; the remedy in our message fixes both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1_searcher.files import sums
from r1_searcher.files.artefacts import read_json

ROOT = Path(__file__).resolve().parents[2]
STAGE = """
stages:
  index:
    cmd: python make.py
    deps: [seed]
    outs: [data/index]
"""
MAKE = """
from r1_searcher.files.artefacts import atomic, write_json
with atomic("data/index", folder=True) as draft:
    write_json(draft / "meta.json", {"num_passages": 720})
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project with one stage, which has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / ".dvc/tmp/site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.delenv("R1SEARCHER_STORE", raising=False)
    Path("dvc.yaml").write_text(STAGE)
    Path("make.py").write_text(MAKE)
    Path("seed").write_text("0")
    run("dvc", "init", "--no-scm", "--quiet")
    run("dvc", "repro", "--quiet")
    return tmp_path


def run(module: str, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == status, done
    return done.stdout


def flip(path: Path) -> None:
    """Flip one bit in a read-only file whose times stay: DVC does not check it again."""
    before = path.stat()
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"720", b"730"))
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    sums.forget_hashes()


def test_a_damaged_cache_is_found_and_repaired(project: Path) -> None:
    [stored] = [path for path in Path(".dvc/cache/files/md5").glob("??/*") if b"720" in path.read_bytes()]
    flip(stored)
    for path in sorted(Path("data/index").iterdir()):
        path.unlink()
    run("dvc", "checkout", "--quiet", "--force")
    assert b"730" in Path("data/index/meta.json").read_bytes(), (
        "DVC has begun to look: the line below says less than is so"
    )
    with pytest.raises(sums.Damaged, match=r"data/index/meta\.json: its sha256 .*verify --repair.*then `dvc repro`"):
        read_json("data/index/meta.json")
    said = run("r1_searcher.files.verify", "--repair", status=1)
    assert "damaged: data/index/meta.json" in said and stored.name in said
    run("dvc", "repro", "--quiet")
    assert read_json("data/index/meta.json") == {"num_passages": 720}
    assert "none damaged" in run("r1_searcher.files.verify")


def test_a_damaged_output_comes_back_from_the_cache(project: Path) -> None:
    flip(Path("data/index/meta.json"))
    Path("make.py").write_text("raise SystemExit('the stage ran again')")  # not one of its dependencies
    run("r1_searcher.files.verify", "--repair", status=1)
    run("dvc", "repro", "--quiet", status=0)
    assert read_json("data/index/meta.json") == {"num_passages": 720}
