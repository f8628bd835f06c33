"""A disk that is really full or read-only: stages run on a small tmpfs, in their own mount namespace."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LARGE = "{people: 1000, films: 600, books: 600, cities: 120}"
SMALL = "{people: 20, films: 10, books: 10, cities: 5}"


def on_a_small_disk(folder: Path, script: str, *, kilobytes: int) -> subprocess.CompletedProcess[str]:
    """Run a shell script with ``folder`` mounted as a file system of that size, visible to the script alone."""
    mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs {shlex.quote(str(folder))} && cd {shlex.quote(str(folder))}"
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", f"{mount} && {script}"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        tried = on_a_small_disk(folder, "true", kilobytes=64)
    except FileNotFoundError:
        pytest.skip("a small disk needs the command unshare (Linux)")
    if tried.returncode != 0:
        pytest.skip(f"this system lets no small disk be mounted: {tried.stderr.strip()}")
    return folder


@pytest.mark.parametrize("stage", ["corpus", "index"])
def test_a_full_disk_is_one_line_and_loses_nothing(disk: Path, tmp_path: Path, stage: str) -> None:
    """A small world's files fit; the large one's do not; the small one's stay, and no draft does."""
    params = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
    assert params.count(LARGE) == 1
    (tmp_path / "large.yaml").write_text(params, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(params.replace(LARGE, SMALL), encoding="utf-8")
    python = shlex.quote(sys.executable)
    corpus = {size: shlex.quote(str(tmp_path / f"corpus-{size}")) for size in ("small", "large")}
    if stage == "corpus":
        commands = {size: f"{python} -m stages.corpus --params ../{size}.yaml" for size in ("small", "large")}
    else:
        commands = {
            size: f"{python} -m stages.index --params ../{size}.yaml --corpus {corpus[size]}"
            for size in ("small", "large")
        }
        for size in ("small", "large"):
            made = subprocess.run(
                [sys.executable, "-m", "stages.corpus", "--params", tmp_path / f"{size}.yaml", "--corpus",
                 tmp_path / f"corpus-{size}"],
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
    sums = "find data -type f | sort | xargs sha256sum"
    script = f"{commands['small']} >/dev/null && {sums} && echo == && {commands['large']}; echo status $?; {sums}"
    ran = on_a_small_disk(disk, script, kilobytes=110)

    before, _, after = ran.stdout.partition("==\n")
    status, _, left = after.partition("\n")
    assert before.count("data/") >= 2, ran
    assert status == "status 2", ran
    assert left == before, "what was made is gone or changed, or a draft was left"
    (line,) = ran.stderr.strip().splitlines()
    assert line.startswith("error: ") and "the disk is full" in line, line


def test_a_read_only_disk_is_one_line(disk: Path) -> None:
    python = shlex.quote(sys.executable)
    params = ROOT / "r1_searcher/params/defaults.yaml"
    script = f"mkdir data && mount -o remount,ro . && {python} -m stages.corpus --params {params}"
    ran = on_a_small_disk(disk, script, kilobytes=64)
    (line,) = ran.stderr.strip().splitlines()
    assert ran.returncode == 2, ran
    assert line.startswith("error: data/") and "the file system is read-only (mount it writable" in line, line
