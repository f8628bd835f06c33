"""dvc.yaml against the code: what a stage depends on is what it imports, and every parameter is somebody's."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.contract.params import Params, parse

ROOT = Path(__file__).resolve().parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS = parse((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict[str, Any]] = {name: block.get("do", block) for name, block in DVC["stages"].items()}

# What tells of a run or says where it runs, and changes nothing that it makes.
ONLY_TALK = {"flows/__init__.py", "flows/log.py", "flows/server.py", "stages/__init__.py"} | {
    f"flows/{name}.py"
    for name in (
        "child",
        "expected",
        "busy",
        "gpus",
        "machine",
        "ray_cluster",
        "workers",
        "workers_local",
        "workers_ray",
        "worker_process",
        "access",
        "server_process",
    )
}
ONLY_TALK |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "stages" / "plan").glob("*.py")}

NO_STAGES = {"hardware", "regression"}  # parameters of commands that stand beside the pipeline
ANY = "<any>"  # in a parameter's name: whatever the stage is made for

# One command of several: what it runs, behind the room's __main__.
ENTRIES = {
    "questions": ["stages/questions/run.py"],
    "audit": ["stages/questions/audit.py"],
    "audit_benchmark": ["stages/questions/audit.py"],
    "difficulty": ["stages/questions/difficulty.py"],
    "mix": ["stages/questions/mix.py"],
    # Behind them __main__ holds the model against the update's code, which changes no byte of it.
    "base_model": ["stages/base_model/tiny.py", "stages/base_model/imported.py"],
    "base_metrics": ["stages/base_model/measure.py"],
    "summary": ["stages/evaluate/gathered.py"],
}


def entries(name: str) -> set[Path]:
    """The files that a stage's ``python -m a.b`` runs."""
    if name in ENTRIES:
        return {ROOT / path for path in ENTRIES[name]}
    command = STAGES[name]["cmd"]
    module = command.split()[2].replace(".", "/")
    return {next(path for path in (ROOT / f"{module}.py", ROOT / module / "__main__.py") if path.exists())}


@functools.cache
def imported(path: Path) -> set[Path]:
    """The project's files that a file imports, at the top or inside a function; packages' ``__init__`` too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found: set[Path] = set()
    for name in names:
        parts = name.split(".")
        if parts[0] not in ("stages", "flows"):
            continue
        for length in range(1, len(parts) + 1):
            place = ROOT.joinpath(*parts[:length])
            found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()}
    return found


def closure(starts: set[Path]) -> set[str]:
    """All project files that running ``starts`` may load."""
    seen: set[Path] = set()
    todo = starts | {start.parent / "__init__.py" for start in starts}
    while todo:
        path = todo.pop()
        seen.add(path)
        todo |= imported(path) - seen
    return {path.relative_to(ROOT).as_posix() for path in seen if not only_docstring(path)}


@functools.cache
def only_docstring(path: Path) -> bool:
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


def code_deps(stage: dict[str, Any]) -> set[str]:
    return {dep for dep in stage["deps"] if dep.startswith(("stages", "flows"))}


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_are_the_imports(name: str) -> None:
    stage = STAGES[name]
    needed, listed = closure(entries(name)), code_deps(stage)
    missing = {file for file in needed - ONLY_TALK if not any(covers(dep, file) for dep in listed)}
    assert missing == set(), "imported, but not among deps"
    unused = {dep for dep in listed if not any(covers(dep, file) for file in needed)}
    assert unused == set(), "among deps, but not imported"


def test_the_closure_sees_imports_inside_functions() -> None:
    assert "stages/update/__init__.py" in closure({ROOT / "flows/train.py"})
    assert "stages/rollout/__init__.py" in closure({ROOT / "flows/train.py"})


def test_training_depends_on_nothing_of_evaluation() -> None:
    for name in ("base_model", "train"):
        stage = STAGES[name]
        assert not any("evaluat" in str(item) for item in [*stage["deps"], *stage["params"]])


def test_a_changed_audit_trains_nothing_anew() -> None:
    """Training waits for the verdict, whose bytes never change, and not for the figures."""
    deps = STAGES["train"]["deps"]
    assert "data/audit/verdict.json" in STAGES["audit"]["outs"] and "data/audit/verdict.json" in deps
    assert not any(str(dep).startswith("metrics") for dep in deps)


def test_a_change_of_one_training_stage_leaves_the_other_alone() -> None:
    keys = STAGES["train"]["params"]
    assert "train.${item.stage}" in keys and "train.segments.${key}" in keys
    assert "train" not in keys and "train.segments" not in keys


def test_vectors_of_the_corpus_make_no_new_base_model() -> None:
    keys = STAGES["base_model"]["params"]
    assert "index.k1" in keys and "index" not in keys and "index.dense" not in keys


def test_every_parameter_is_some_stages() -> None:
    used = {str(key).split(".")[0] for stage in STAGES.values() for key in stage.get("params", [])}
    assert used == set(Params.model_fields) - NO_STAGES


def test_what_a_stage_names_in_the_parameters_is_there() -> None:
    raw = PARAMS.model_dump()
    for name, stage in STAGES.items():
        for key in stage.get("params", []):
            place: Any = raw
            for part in re.sub(r"\$\{[^}]*\}", ANY, str(key)).split("."):
                if part == ANY and not place:  # a matrix that this profile leaves empty
                    break
                assert part == ANY or part in place, f"{name}: {key}"
                place = place[next(iter(place)) if part == ANY else part]


def test_no_output_is_in_the_store() -> None:
    outs = [out for stage in STAGES.values() for out in stage.get("outs", [])]
    assert not any(".store" in str(out) for out in outs)


def test_the_headline_is_the_one_metric_and_stands_in_git() -> None:
    """`dvc metrics show` has a column for each figure of each metric, so no other output may be one."""
    metrics = [item for stage in STAGES.values() for item in stage.get("metrics", [])]
    assert metrics == [{"metrics/headline": {"cache": False}}]
    assert STAGES["summary"]["metrics"] == metrics


def test_every_other_output_is_cached() -> None:
    """DVC keeps no run cache for a stage with an uncached output that is no metric."""
    outs = [out for stage in STAGES.values() for out in stage.get("outs", [])]
    assert [out for out in outs if not isinstance(out, str)] == []


def test_the_papers_curves_are_drawn() -> None:
    drawn = {column for plot in DVC["plots"] for settings in plot.values() for column in settings["y"].values()}
    assert {"reward", "response_length", "searches", "format_rate", "f1", "cover_em"} <= drawn
