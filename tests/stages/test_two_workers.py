"""`make test` runs its tests in two processes: failures in either are found, and counted in one line."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATHS: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
    "ini_options"
]["testpaths"]
FOLDERS = [Path(path).name for path in PATHS]


def commands() -> dict[str, list[str]]:
    """Return the arguments that `make test` and `make test-unit` give to pytest."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "test", "test-unit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = re.findall(r"python -m pytest (-n .*)", done.stdout)
    return dict(zip(("test", "test-unit"), map(shlex.split, lines), strict=True))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's conftest, whose folders hold two files each; every test reports its process."""
    (tmp_path / "pytest.ini").write_text(f"[pytest]\ntestpaths = {' '.join(PATHS)}\nmarkers = gpu: needs one\n")
    for folder in FOLDERS:
        for name in ("one", "two"):
            file = tmp_path / "tests" / folder / f"test_{folder}_{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                "import os, pathlib, pytest\n"
                "@pytest.mark.parametrize('number', range(3))\n"
                "def test_good(number):\n"
                f"    pathlib.Path('{folder}_{name}').open('a').write(f'{{os.getpid()}}\\n')\n"
            )
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
    return tmp_path


def run(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *commands()["test"]]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_every_folder_is_run() -> None:
    paths = {name: [word for word in words if word.startswith("tests/")] for name, words in commands().items()}
    assert paths == {"test": [], "test-unit": ["tests/unit"]}
    assert "-m" not in commands()["test"], "`make test` runs the slow tests too"
    assert commands()["test-unit"][-3:] == ["-m", "not slow", "tests/unit"]
    there = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("*/test_*.py")}
    assert sorted([*PATHS, "tests/doors", "tests/engines"]) == sorted(there)  # by targets of their own
    assert PATHS[0] == "tests/end_to_end" and PATHS[-1] == "tests/unit", "the longest first"


def test_a_failure_is_found_in_whatever_folder(project: Path) -> None:
    for folder in FOLDERS:
        with open(project / "tests" / folder / f"test_{folder}_two.py", "a") as file:
            file.write("def test_bad():\n    assert False\n")
    done = run(project)
    assert done.returncode == 1
    assert re.search(rf"=+ {len(FOLDERS)} failed, {6 * len(FOLDERS)} passed in .*=+$", done.stdout.strip()), done.stdout
    for folder in FOLDERS:
        assert f"FAILED tests/{folder}/test_{folder}_two.py::test_bad" in done.stdout
        for name in ("one", "two"):
            pids = (project / f"{folder}_{name}").read_text().split()
            assert len(pids) == 3 and len(set(pids)) == 1, "a file's tests belong together"
    assert (project / "end_to_end_one").read_text() == (project / "end_to_end_two").read_text(), "they share a run"


def test_files_that_belong_together_are_one_workers(pytestconfig: pytest.Config) -> None:
    """Of two processes with Ray, each would find the other's cluster."""
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests/conftest.py"))
    config = SimpleNamespace(getvalue=lambda name: ["2*popen"])
    split = conftest.pytest_xdist_make_scheduler(config, None)._split_scope  # type: ignore[union-attr]

    def groups(folder: str, pattern: str) -> list[str]:
        return [split(f"tests/{folder}/{file.name}::test") for file in (ROOT / "tests" / folder).glob(pattern)]

    for folder, pattern in (("end_to_end", "test_*.py"), ("engines", "test_ray_*.py")):
        assert len(groups(folder, pattern)) > 2 and len(set(groups(folder, pattern))) == 1
    assert len(set(groups("engines", "test_[!r]*.py"))) == len(groups("engines", "test_[!r]*.py")) > 2


def test_a_process_that_dies_or_collects_others_is_a_failure(project: Path) -> None:
    file = project / "tests/flows/test_flows_two.py"
    whole = file.read_text()
    file.write_text(whole + "def test_dies():\n    os._exit(0)\n")
    died = run(project)
    assert died.returncode == 1 and "1 failed" in died.stdout.strip().splitlines()[-1], died.stdout
    file.write_text(whole + "@pytest.mark.parametrize('pid', [os.getpid()])\ndef test_pid(pid): ...\n")
    other = run(project)
    assert other.returncode == 1 and "Different tests were collected" in other.stdout, other.stdout
