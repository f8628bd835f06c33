"""Write each stage's code dependencies into dvc.yaml: exactly the modules that it imports.

    python -m flows.stage_code           write them into dvc.yaml
    python -m flows.stage_code --check   exit with 1 and list the stages if any is out of date

Imports are followed without running anything, at the top of a module and inside functions alike; those under
``if TYPE_CHECKING:`` never happen and do not count. A folder whose modules are all imported stands for them. Of what is
registered under names (``r1_searcher.points``) a stage depends on the files of the chosen names alone, if the section
or the key that chooses is among its parameters; a user's own file too. So the lists are those of one params.yaml.
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import r1_searcher
from r1_searcher.errors import PipelineError, command
from r1_searcher.files.artefacts import write_text
from r1_searcher.params import PARAMS_FILE, Params, load
from r1_searcher.params.whole import extensible_sections
from r1_searcher.points import POINTS
from r1_searcher.shown import show
from r1_searcher.texts import parse_yaml

_PIPELINE = Path("dvc.yaml")
LIBRARY = Path(r1_searcher.__file__).resolve().parent
_PACKAGES = ("r1_searcher", "stages", "flows")
OTHER_STAGES = ("data/", "metrics/", "plots/", "${")  # other dependencies of stages, and folders of inputs/

# Commands with several verbs: what each verb runs, behind the stage's __main__.
ENTRIES: dict[str, tuple[str, ...]] = {
    "python -m stages.index": ("r1_searcher/retrieval/make.py",),
    "python -m stages.evaluate all": ("r1_searcher/evaluation/policies.py",),
    "python -m stages.evaluate benchmark": ("r1_searcher/evaluation/policies.py",),
    "python -m stages.questions": ("stages/questions/run.py",),
    "python -m stages.questions audit": ("r1_searcher/questions/audit.py",),
    "python -m stages.questions difficulty": ("r1_searcher/questions/difficulty.py",),
    "python -m stages.questions mix": ("r1_searcher/questions/mix.py",),
    # __main__ also checks the model against the update's code, which changes no byte of the model.
    "python -m stages.base_model make": ("r1_searcher/models/tiny.py", "r1_searcher/models/imported.py"),
    "python -m stages.base_model measure": ("stages/base_model/measure.py",),
    "python -m stages.evaluate summary": ("r1_searcher/evaluation/summary_commands.py",),
}

# These reject errors (values of parameters are dependencies themselves), report on a run, or decide where it runs, and
# change none of its results.
CHANGES_NOTHING = (
    *(
        "r1_searcher/params",
        *(f"r1_searcher/{name}.py" for name in ("errors", "keys", "names", "options", "progress", "shown", "tables")),
    ),
    *("flows/__init__.py", "stages/__init__.py", "r1_searcher/__init__.py", "r1_searcher/plan", "r1_searcher/tracking"),
    *(
        f"flows/{name}.py"
        for name in (
            "access",
            "child_flow",
            "expected_errors",
            "gpus",
            "log",
            "machine",
            "machine_load",
            "server",
            "server_process",
        )
    ),
    *(f"flows/{name}.py" for name in ("ray_cluster", "workers", "workers_local", "workers_ray", "worker_process")),
)


def code_of(stage: Mapping[str, Any], root: Path, params: Params) -> list[str]:
    """Return the files and folders of code that a stage depends on, sorted.

    Args:
        stage: as in dvc.yaml; uses its ``cmd`` (``python -m a.b …``) and its ``params``.
        root: the checkout.
        params: whose chosen names count.
    """
    keys = [*stage.get("params", []), *re.findall(r"\$\{([\w.]+)\}", stage.get("foreach", ""))]
    chosen = chosen_files(keys, root, params)
    own = {path for path in chosen if not path.is_relative_to(root) or path.relative_to(root).parts[0] not in _PACKAGES}
    texts = {path for path in chosen if path.suffix != ".py"}
    starts = entries(stage["cmd"], root) | chosen - texts
    files = {file for file in closure(starts, root) if not _within(file, CHANGES_NOTHING)}
    files -= {_relative(path, root) for path in own}
    data = {folder for file in files for folder in _data_folders(root / file, root)}
    data |= {_relative(path, root) for path in texts - own}
    return sorted(_relative(path, root) for path in own) + sorted({*_folded(files, root), *data})


def chosen_files(keys: Sequence[str], root: Path, params: Params) -> set[Path]:
    """Return the files of all names chosen under a stage's parameters ``keys``."""
    found: set[Path] = set()
    for name in extensible_sections():
        section = getattr(params, name)
        for field in section.points:
            if {name, f"{name}.{field}"} & set(keys):
                for path in section.chosen_files(field):
                    if not _in(root, path).is_file():  # DVC would only say that a dependency is missing
                        raise section.points[field].unknown(str(path), params.extensions, where=f"{name}.{field}")
                    found.add(_in(root, path))
    return found


def _in(root: Path, path: Path) -> Path:
    """Return a chosen name's file in the checkout ``root``: the library's own by its place there, a user's as given."""
    return root / path.relative_to(LIBRARY.parent) if path.is_relative_to(LIBRARY) else root / path


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def entries(cmd: str, root: Path) -> set[Path]:
    """Return the files that a command of dvc.yaml runs."""
    words = cmd.split()
    for length in (4, 3):
        if (found := ENTRIES.get(" ".join(words[:length]))) is not None:
            return {root / path for path in found}
    module = words[2].replace(".", "/")
    for path in (root / f"{module}.py", root / module / "__main__.py"):
        if path.exists():
            return {path}
    raise PipelineError(f"no module {words[2]}", where=f"{_PIPELINE}, {cmd}", fix="cmd: python -m MODULE …")


def closure(starts: set[Path], root: Path) -> set[str]:
    """Return every project file with code that running ``starts`` may import, relative to ``root``."""
    seen: set[Path] = set()
    todo = starts | {file for start in starts for file in _packages(start, root)}
    while todo:
        path = todo.pop()
        seen.add(path)
        todo |= imported(path, root) - seen
    return {_relative(path, root) for path in seen if not _only_docstring(path)}


@functools.cache
def imported(path: Path, root: Path) -> frozenset[Path]:
    """Return the project's files that a file imports, with the packages above them."""
    found: set[Path] = set()
    for name in _imported_names(_tree(path)):
        parts = name.split(".")
        if parts[0] not in _PACKAGES:
            continue
        for length in range(1, len(parts) + 1):
            place = root.joinpath(*parts[:length])
            found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return frozenset(found)


def _imported_names(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from _imported_names(child)


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _data_folders(path: Path, root: Path) -> Iterator[str]:
    """Yield folders beside a module that it reads as data: ``Path(__file__).parent / "prompts"``."""
    for name in re.findall(r'Path\(__file__\)\.parent / "(\w+)"', path.read_text(encoding="utf-8")):
        yield (path.parent / name).relative_to(root).as_posix()


def _only_docstring(path: Path) -> bool:
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in _tree(path).body)


def _packages(path: Path, root: Path) -> set[Path]:
    folders = [folder for folder in path.parents if folder != root and folder.is_relative_to(root)]
    return {file for folder in folders if (file := folder / "__init__.py").is_file()}


def _within(file: str, places: Sequence[str]) -> bool:
    return any(file == place or file.startswith(f"{place}/") for place in places)


def _folded(files: set[str], root: Path) -> list[str]:
    """Return ``files`` with a folder in place of its modules if all are included and nothing is registered there."""
    registers = [point.package.replace(".", "/") for point in POINTS]
    folders = {parent.as_posix() for file in files for parent in Path(file).parents if len(parent.parts) >= 2}
    for folder in sorted(folders, key=len):
        if any(f"{place}/".startswith(f"{folder}/") for place in registers):
            continue
        code = {
            path.relative_to(root).as_posix() for path in (root / folder).rglob("*.py") if not _only_docstring(path)
        }
        if len(code) > 1 and code <= files:
            files = {file for file in files if not file.startswith(f"{folder}/")} | {folder}
    return sorted(files)


def stages_of(text: str) -> dict[str, dict[str, Any]]:
    """Return the stages of a dvc.yaml by name; for repeated ones what is under ``do``, and ``foreach``."""
    return {
        name: {**block.get("do", block), "foreach": block.get("foreach", "")}
        for name, block in parse_yaml(text, where=str(_PIPELINE))["stages"].items()
    }


def is_code(dep: str) -> bool:
    """Return whether a dependency is written here: the project's code, or a file that the user chose."""
    if dep.startswith(tuple(f"{package}/" for package in _PACKAGES)):
        return True
    return bool(Path(dep).suffix) and not dep.startswith(OTHER_STAGES)


def rewritten(text: str, root: Path, params: Params) -> str:
    """Return dvc.yaml's ``text`` with the present code dependencies of code and parameters."""
    for name, stage in stages_of(text).items():
        code = code_of(stage, root, params)
        others = [dep for dep in stage["deps"] if not is_code(dep) and dep not in code]
        block = re.search(rf"^  {name}:\n(?:    .*\n|\n)*", text, re.MULTILINE)
        assert block is not None, name
        deps = re.search(r"^( +)deps:(?:.*\n)(?:\1 +.*\n|\1  *- .*\n)*", block[0], re.MULTILINE)
        assert deps is not None, name
        new = block[0].replace(deps[0], _deps(code, others, deps[1]))
        text = text.replace(block[0], _with_own_parameters(new, stage.get("params", []), params))
    return text


def _with_own_parameters(block: str, keys: Sequence[str], params: Params) -> str:
    """Return a stage's block with the parameters of what it chooses: ``reward.mine`` beside ``reward.set: mine``.

    A stage that depends on the whole section has them anyway.
    """
    sections = {name: getattr(params, name) for name in extensible_sections()}
    wanted = {
        f"{name}.{chosen}"
        for name, section in sections.items()
        for field in section.points
        for chosen in section.own
        if f"{name}.{field}" in keys and name not in keys and chosen in section.chosen_names(field)
    }
    for key in keys:
        name, _, rest = key.partition(".")
        if name in sections and rest.split(".")[0] not in {"", *type(sections[name]).model_fields}:
            block = re.sub(rf", {re.escape(key)}(?=[,\]])", "", block, count=1)
    for key in sorted(wanted):
        block = re.sub(r"(params: \[[^\]]*)\]", rf"\g<1>, {key}]", block, count=1)
    return block


def _deps(code: Sequence[str], others: Sequence[str], indent: str) -> str:
    """Return the lines of ``deps``: a flow list of all code, with as many items per line as fit."""
    items = [f"'{item}'" if "{" in item else item for item in (*code, *others)]
    lines, line = [f"{indent}deps:"], f"{indent}  ["
    for position, item in enumerate(items):
        word = item + ("]" if position == len(items) - 1 else ",")
        if len(line) + len(word) + 1 > 120:
            lines.append(line.rstrip())
            line = f"{indent}   "
        line += word + " "
    return "\n".join([*lines, line.rstrip()]) + "\n"


def stale(root: Path) -> list[str]:
    """Return the stages in ``root`` whose code dependencies are out of date."""
    text = (root / _PIPELINE).read_text(encoding="utf-8")
    before, after = stages_of(text), stages_of(rewritten(text, root, load(root / PARAMS_FILE)))
    return [name for name in before if any(before[name].get(key) != after[name].get(key) for key in ("deps", "params"))]


def write(root: Path) -> list[str]:
    """Write them into dvc.yaml; return the stages whose lists changed."""
    old = stale(root)
    if old:
        text = (root / _PIPELINE).read_text(encoding="utf-8")
        write_text(root / _PIPELINE, rewritten(text, root, load(root / PARAMS_FILE)))
    return old


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.stage_code", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a list is out of date")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    if options.check:
        old = stale(root)
        if old:
            show(f"{_PIPELINE}: not what the code imports: {', '.join(old)} (write it: python -m flows.stage_code)")
        return 1 if old else 0
    if changed := write(root):
        show(f"{_PIPELINE}: code dependencies as code and parameters have them now: {', '.join(changed)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
