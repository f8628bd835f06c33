"""examples/: the commands at the top of each run unchanged in a checkout, and print what they should."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
# A line printed by each.
PRINTED = {
    "own_reward.py": "hand_made_transcripts.jsonl: 16 transcripts, mean reward 0.2887, 16 without a violation",
    "own_estimator.py": "question a, reward 0: [-0.25, -0.25]",
    "own_retriever/own_retriever.py": "1. 3.000  [2] line 3: Ann was born in Rome",
    "own_corpus/own_corpus.py": "The square of 7: 7 times 7 is 49.",
    "own_data/profile.yaml": "Paper Harvest: Paper Harvest is a 1948 film directed by Ilse Korda.",
    "own_prompt/own_prompt.py": "</answer>\n\nQuestion: Who married the author of Fallen Mountain?\n<think>",
    "own_tool.py": "\n(1) 7 * 24 = 168\n",
    "library.ipynb": "",
    **dict.fromkeys(("with_trl.py", "with_verifiers.py", "with_openenv.py"), ""),  # tests/doors runs them
}


def header(path: Path) -> str:
    """Return the beginning of an example: a docstring, comments, or a notebook's first cell."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return "".join(json.loads(text)["cells"][0]["source"])
    if path.suffix == ".py":
        return text.split('"""')[1]
    return re.sub(r"^# ?", "", re.split(r"^(?!#)", text, maxsplit=1, flags=re.MULTILINE)[0], flags=re.MULTILINE)


def commands(path: Path) -> list[str]:
    lines = re.findall(r"^    (.*)$", header(path).replace("\\\n", " "), re.MULTILINE)
    return [re.sub(r" {2,}", " ", line) for line in lines]


def test_the_list_names_every_example_and_each_says_what_it_shows() -> None:
    listed = re.findall(r"^\| \[(\S+)\]\((\S+)\) \|", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE)
    there = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}
    assert {name for name, _ in listed} == there
    assert [place for _, place in listed] == list(PRINTED)
    for place in PRINTED:
        assert len(header(EXAMPLES / place).split("\n    ")[0].split()) > 5 and commands(EXAMPLES / place), place


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without outputs whose environment has the command."""
    root = tmp_path_factory.mktemp("examples") / "checkout"
    root.mkdir()
    shutil.copytree(EXAMPLES, root / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("baselines", "dvc.yaml", "flows", "Makefile", "params.yaml", "stages", "tests"):
        (root / name).symlink_to(ROOT / name)
    command = root / "bin/r1-searcher"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m r1_searcher "$@"\n')
    command.chmod(0o755)
    return root


def ran(checkout: Path, lines: list[str]) -> str:
    """Return the commands' outputs, one after the other."""
    here = checkout.parent
    variables = {
        "PATH": os.pathsep.join([str(checkout / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "R1SEARCHER_STORE": str(here / "store"),
        "OMP_NUM_THREADS": "1",
        **{name: str(here / "jupyter") for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")},
    }
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)],
        cwd=checkout,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("place", [place for place, said in PRINTED.items() if said])
def test_its_commands_run(place: str, checkout: Path) -> None:
    before = {path.name for path in checkout.iterdir()}
    assert PRINTED[place] in ran(checkout, commands(EXAMPLES / place))
    assert {path.name for path in checkout.iterdir()} <= before | {"own"}


def test_the_notebook_runs(checkout: Path) -> None:
    [command] = commands(EXAMPLES / "library.ipynb")
    ran(checkout, [f"{command} --output=ran.ipynb"])
    cells = json.loads((checkout / "examples/ran.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    printed = "".join(line for output in outputs if output.get("name") == "stdout" for line in output["text"])
    assert "Sacred Mountain is a 1930 book written by Arlo Gikrin." in printed
    assert "\nbetter\n" in printed and "<|begin_of_query|>" in printed


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = json.loads((EXAMPLES / "library.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells)
