"""Heavy libraries are loaded by the package that needs them, when it needs them, and by no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "sentence_transformers", "faiss", "deepspeed", "vllm", "ray", "prefect")
LIGHT_MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for part in ("files", "params", "rewards", "transcripts", "types")
    for path in (ROOT / "r1_searcher" / part).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
COMMANDS = sorted(path.parent.name for path in (ROOT / "stages").glob("*/__main__.py"))

RUN_IMPORTS = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
RUN_HELP = """
import runpy, sys
room = sys.argv.pop(1)
sys.argv.append("--help")
try:
    runpy.run_module(room, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, f"--help ended with status {end.code}"
"""
REPORT_LOADED = f"""
import json, sys
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


def loaded_by(code: str, *arguments: str) -> list[str]:
    """Return the heavy libraries that a fresh Python has loaded after ``code``."""
    run = subprocess.run(
        [sys.executable, "-c", code + REPORT_LOADED, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: list[str] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_check_itself_sees_a_heavy_import() -> None:
    assert loaded_by(RUN_IMPORTS, "torch") == ["torch"]


def test_contract_and_reward_load_no_framework() -> None:
    assert "r1_searcher.types.schemas" in LIGHT_MODULES
    assert loaded_by(RUN_IMPORTS, *LIGHT_MODULES) == []


@pytest.mark.slow
@pytest.mark.parametrize("room", COMMANDS)
def test_help_loads_no_framework(room: str) -> None:
    assert loaded_by(RUN_HELP, f"stages.{room}") == []


def test_an_index_without_vectors_is_built_without_a_framework(tmp_path: Path) -> None:
    passage = {"passage_id": "p0", "title": "Ann", "text": "was born in Kolm", "source": "test"}
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.Table.from_pylist([passage]), tmp_path / "corpus/passages.parquet")
    code = "import sys; from stages.index.__main__ import main; assert main(sys.argv[1:]) == 0\n"
    assert loaded_by(code, "--corpus", str(tmp_path / "corpus"), "--index", str(tmp_path / "index")) == []


def test_scoring_loads_no_library_at_all() -> None:
    """500 transcripts are scored in the time that a library takes to load."""
    run = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-m",
            "stages.evaluate",
            "score",
            "tests/data/hand_made_transcripts.jsonl",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert "r1_searcher.evaluation.score" in loaded
    assert loaded & {*HEAVY, "numpy", "pyarrow", "pydantic", "yaml"} == set()


def test_every_command_of_dvc_yaml_is_checked_above() -> None:
    pipeline = ROOT / "dvc.yaml"
    named = set(re.findall(r"python -m stages\.(\w+)", pipeline.read_text())) if pipeline.exists() else set()
    assert named <= set(COMMANDS)
