"""The library in another project: the wheel, installed without this checkout, used from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ("params/defaults.yaml", "judging/prompts/judge.txt", "rollout/prompts/base.txt", "report/templates/page.html")
PASSAGES = [
    {"passage_id": "p0", "title": "Silent River", "text": "Silent River was directed by Ann Kolm", "source": "test"},
    {"passage_id": "p1", "title": "Ann Kolm", "text": "Ann Kolm was born in Port Tarn", "source": "test"},
]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, because a build writes into its folder."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("r1_searcher", "stages", "flows", "tests", "locks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline."""
    out = tmp_path_factory.mktemp("wheel")
    command: list[str | Path] = [
        *PIP,
        "wheel",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        out,
        source,
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    [found] = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("target")
    command: list[str | Path] = [*PIP, "install", "--no-index", "--no-deps", "--target", target, wheel]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return target


def run(installed: Path, folder: Path, *words: str, **variables: str) -> str:
    """Return a command's output in ``folder``, with the installed library alone."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_library_and_its_data_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    [about] = tops - {"r1_searcher"}
    assert about.endswith(".dist-info")
    assert {f"r1_searcher/{name}" for name in ("py.typed", *DATA)} <= set(names)
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "r1_searcher").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert ours <= set(names), "a file of the library that the wheel lacks: [tool.setuptools.package-data]"


def test_setup_installs_the_checkout_itself(source: Path, tmp_path: Path) -> None:
    """As `make setup` does, into an environment that has the packages: the command runs the checkout's own files."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, stdin=subprocess.DEVNULL)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python = environment / "bin/python"
    subprocess.run(["/bin/sh", source / "locks/install", python, "project", "--quiet"], check=True, cwd=tmp_path)
    code = "import r1_searcher; print(r1_searcher.__file__)"
    assert subprocess.check_output([python, "-c", code], cwd=tmp_path, text=True).strip() == str(
        source / "r1_searcher/__init__.py"
    )
    printed = subprocess.check_output([environment / "bin/r1-searcher", "--version"], cwd=tmp_path, text=True)
    assert printed.split(".")[0].isdigit()


def test_the_command_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.Table.from_pylist(PASSAGES), tmp_path / "corpus/passages.parquet")
    shutil.copy(ROOT / "tests/data/hand_made_transcripts.jsonl", tmp_path / "transcripts.jsonl")
    command = str(installed / "bin/r1-searcher")
    assert "2 passages" in run(installed, tmp_path, command, "index", "--corpus", "corpus", "--index", "index")
    found = run(installed, tmp_path, command, "search", "who directed Silent River", "-k", "1", "--index", "index")
    assert found.startswith("1. ") and "[p0] Silent River: " in found
    scores = json.loads(run(installed, tmp_path, command, "score", "transcripts.jsonl", "--json"))
    assert scores["transcripts.jsonl"]["n"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "index", "transcripts.jsonl"}


def test_every_help_is_there_with_examples_and_the_shell_completes(installed: Path, tmp_path: Path) -> None:
    command = str(installed / "bin/r1-searcher")
    shown = run(installed, tmp_path, command, "--help")
    assert "--install-completion" in shown
    assert "complete_bash" in run(installed, tmp_path, command, _R1_SEARCHER_COMPLETE="source_bash")
    code = """
import contextlib, io
from r1_searcher.cli.app import COMMANDS
for name, found in COMMANDS.items():
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            status = found.run(name, ["--help"])
        except SystemExit as ended:
            status = ended.code
    print(name, status or 0, f"examples:\\n  r1-searcher {name}" in said.getvalue())
"""
    lines = run(installed, tmp_path, "-c", code).splitlines()
    assert len(lines) > 20 and {line.partition(" ")[2] for line in lines} == {"0 True"}, lines
    for line in lines:
        assert f"\n  {line.partition(' ')[0]} " in shown


def test_the_library_is_used_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = """
import sys
import r1_searcher
assert not {"numpy", "pyarrow", "pydantic"} & set(sys.modules)
from pathlib import Path
import pyarrow as pa
r1_searcher.build_index(pa.Table.from_pylist(%r), r1_searcher.shipped_params().index, Path("index"), "mine")
[[passage]] = r1_searcher.open_index("index").search(["who directed Silent River"], 1)
low, high = r1_searcher.bootstrap_intervals([[0.0], [1.0], [1.0]])[0]
print(passage.passage_id, r1_searcher.f1("Ann Kolm", ["Kolm"]), low < high)
print(Path(r1_searcher.__file__).parent.parent == Path(sys.argv[1]), "torch" in sys.modules)
"""
    printed = run(installed, tmp_path, "-c", code % PASSAGES, str(installed))
    assert printed.split() == ["p0", str(2 / 3), "True", "True", "False"]
