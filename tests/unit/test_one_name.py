"""One name, one thing: no two modules define a public class, type or constant of the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("r1_searcher", "stages", "flows")


def defined(tree: ast.Module) -> Iterator[str]:
    """Return names of classes, at any depth, of type aliases and of constants. A TypeVar's single letter does not
    count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            for node in ast.walk(statement):
                if (
                    isinstance(node, ast.Name)
                    and isinstance(node.ctx, ast.Store)
                    and node.id[1:]
                    and node.id[0].isupper()
                ):
                    yield node.id


def doubles(sources: dict[str, str]) -> dict[str, list[str]]:
    """Return each name that several modules define, with the modules. ``sources``: a module's text by its name."""
    places = defaultdict(set)
    for module, text in sources.items():
        for name in defined(ast.parse(text)):
            if not name.startswith("_"):
                places[name].add(module)
    return {name: sorted(modules) for name, modules in sorted(places.items()) if len(modules) > 1}


def test_no_public_name_means_two_things() -> None:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > 300
    assert doubles({str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}) == {}


def test_the_check_itself_sees_doubles() -> None:
    found = doubles(
        {
            "a.py": "class Engine: ...\nclass _Row: ...\nLIMIT = _LOW = 1\nT = 1\nFound = list[str]",
            "b.py": "if True:\n    class Engine: ...\nclass _Row: ...\nA, LIMIT = _LOW = 2, 3\nT = 1\nclass Found: ...",
            "c.py": "from a import Engine\nclass Other: ...",
        }
    )
    assert found == {name: ["a.py", "b.py"] for name in ("Engine", "Found", "LIMIT")}
