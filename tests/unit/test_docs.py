"""The documents against the repository: what they name exists, and the figures they quote are the parameters'."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher.corpus.own_files import read_passages
from r1_searcher.evaluation.table import EVALUATION_COLUMNS
from r1_searcher.questions.files import read_questions
from r1_searcher.types import schemas

ROOT = Path(__file__).resolve().parents[2]
DOCS = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples" / "README.md",
    ROOT / ".github" / "pull_request_template.md",
    *sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")),
]
PARAMS = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROFILES = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}

# Outputs of the pipeline: named in the documents, missing in a fresh clone.
MADE = re.compile(r"(data|metrics|plots|report|\.store|\.venv|\.workspaces|\.prefect)(/|$)|(rollouts|rewards)\.parquet")
PLACEHOLDERS = re.compile(r"path/to/|NAME|transcripts\.jsonl")
# First words of a command line that form a command of their own, with its own options.
VERBS = set(
    "run gather score search measure fetch benchmark code recipe compare audit difficulty mix judge serve".split()
)
TOP_FOLDERS = ("r1_searcher", "stages", "flows", "tests", "docs", "examples", "profiles", "locks", ".ci", ".github")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code(path: Path) -> list[str]:
    """Return spans in backticks, and lines of indented blocks without their comments."""
    text = text_of(path)
    lines = re.findall(r"^    +(.*)$", text, re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text) + [re.split(r"\s{2,}#|\s{4,}", line)[0] for line in lines]


def commands(path: Path, start: str) -> list[list[str]]:
    """Return the words of each command that begins with ``start``, without leading assignments."""
    found = []
    for line in code(path):
        bare = re.sub(r"^([A-Z_]+=\S+ +)+", "", line.strip())
        if bare.startswith(start):
            found.append(shlex.split(bare))
    return found


def everywhere(start: str) -> list[list[str]]:
    return [words for path in DOCS for words in commands(path, start)]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ +(.*)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_relative_links_resolve(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        place = path.parent / name if name else path
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def test_make_targets_and_variables_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = everywhere("make")
    assert ["make", "train"] in named and ["make", "test"] in named
    for _, *words in named:
        for word in words:
            variable, equals, value = word.partition("=")
            if equals:
                assert re.search(rf"^(export )?{variable} +\?=", MAKEFILE, re.MULTILINE), word
                assert variable != "PROFILE" or value in PROFILES | {"NAME"}, word
            else:
                assert word in targets, word


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_paths_exist(path: Path) -> None:
    names = [word for line in code(path) for word in line.split() if "/" in word or word.endswith((".md", ".yaml"))]
    for name in names:
        plain = name.strip("[](),;:").removesuffix("/")
        known = plain.split("/")[0] in TOP_FOLDERS or re.fullmatch(r"[\w.-]+\.(md|yaml|toml)", plain)
        if not known or MADE.match(plain) or PLACEHOLDERS.search(plain):
            continue
        assert any(ROOT.glob(plain)) or (path.parent / plain).exists(), name


def test_the_file_tour_is_the_tree() -> None:
    block = text_of(ROOT / "docs" / "architecture.md").split("## File tour")[1].split("##")[0]
    folders = set(re.findall(r"(?:^      |(?<= ))(\w+)/(?=[ \n])", block))
    tree = {path.parent.name for top in ("stages", "r1_searcher") for path in (ROOT / top).glob("*/__init__.py")}
    assert folders >= tree
    assert all((ROOT / name).is_dir() or (ROOT / "docs" / name).is_dir() for name in folders - tree)
    for name in re.findall(r"^    ([\w.]+)", block, re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_dvc_commands_name_stages_and_parameters() -> None:
    stages = yaml.safe_load(text_of(ROOT / "dvc.yaml"))["stages"]
    named = everywhere("dvc repro")
    assert named
    for words in named:
        assert {word.partition("@")[0] for word in words[2:] if not word.startswith("-")} <= set(stages), words
    for words in everywhere("dvc exp run"):
        assert words[3] == "-S"
        value_of(words[4].partition("=")[0])


@pytest.mark.slow
def test_python_commands_are_understood() -> None:
    """Every ``python -m`` command parses: its module exists, and its options are in its ``--help``."""
    named = everywhere("python -m")
    assert len(named) > 8
    helps: dict[tuple[str, ...], str] = {}
    for words in named:
        module = words[2]
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module
        verb = [word for word in words[3:4] if word in VERBS]
        options = {word for word in words[3:] if word.startswith("-") and word != "--help"}
        if not options or module.startswith("flows"):  # flows load Prefect even for their help
            continue
        command = (module, *(verb if module != "stages.base_model" else []))
        if command not in helps:
            run = subprocess.run(
                [sys.executable, "-m", *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
            )
            helps[command] = run.stdout
        for option in options:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", helps[command]), words


def value_of(key: str) -> Any:
    place: Any = PARAMS
    for part in key.split("."):
        assert part in place, f"no parameter {key}"
        place = place[part]
    return place


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_parameters_exist(path: Path) -> None:
    for key in re.findall(r"`([a-z0-9_]+(?:\.[a-z0-9_]+)+)`", text_of(path)):
        if key.split(".")[0] in PARAMS and not re.search(r"\.(py|json|csv|html|yaml|md|parquet)$", key):
            value_of(key)


def test_quoted_figures_are_the_parameters() -> None:
    quoted = [pair for path in DOCS for pair in re.findall(r"`(\w+\.[\w.]+)` = ([\w.+-]*\w)", text_of(path))]
    assert len(quoted) > 20
    wrong = {key: (value_of(key), value) for key, value in quoted if value_of(key) != yaml.safe_load(value)}
    assert wrong == {}, "parameter: (params.yaml, document)"


def test_the_worlds_size_is_the_parameters() -> None:
    passages = sum(PARAMS["corpus"]["world"].values())  # one per person, film, book and city
    assert f"{passages:,} one-sentence passages" in text_of(ROOT / "README.md")


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_numbers_have_their_leading_zero(path: Path) -> None:
    assert re.findall(r"(?<![\w.)\]/*])\.\d+", text_of(path)) == []


def test_a_stranger_reads_the_readme_in_minutes() -> None:
    text = text_of(ROOT / "README.md")
    assert len(text.split()) <= 1200
    assert text.index("**Cover-EM**: ") < text.index("| policy | Cover-EM")  # defined before it is used


def test_quoted_columns_are_the_schemas() -> None:
    rows = re.findall(r"^\| (\w+) \| (`.*) \|$", text_of(ROOT / "docs" / "design.md"), re.MULTILINE)
    columns = {name: re.findall(r"`(\w+)`", cells) for name, cells in rows}
    for name in ("passages", "facts", "questions", "rollouts", "rewards", "advantages"):
        assert columns[name] == getattr(schemas, name.upper()).names
    assert columns["evaluation"] == EVALUATION_COLUMNS.names


def test_the_examples_are_read() -> None:
    folder = ROOT / "examples" / "own_data"
    titles = {row["title"] for row in read_passages([folder / "passages.jsonl"], [])}
    splits = {name: read_questions(folder / f"{name}.jsonl") for name in ("train", "validation", "held_out")}
    for table in splits.values():
        assert {title for row in table["supporting_titles"].to_pylist() for title in row} <= titles
