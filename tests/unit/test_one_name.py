"""One name, one thing: no two modules define a public class or type of the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("r1_searcher", "stages", "flows")


def defined(tree: ast.Module) -> Iterator[str]:
    """Public names of classes, at any depth, and of type aliases. A TypeVar of one letter is no name of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id[0].isupper() and not target.id.isupper():
                yield target.id


def doubles(sources: dict[str, str]) -> dict[str, list[str]]:
    """Each name that several modules define, with the modules. ``sources``: a module's text by its name."""
    places = defaultdict(set)
    for module, text in sources.items():
        for name in defined(ast.parse(text)):
            if not name.startswith("_"):
                places[name].add(module)
    return {name: sorted(modules) for name, modules in sorted(places.items()) if len(modules) > 1}


def test_no_class_has_the_name_of_another() -> None:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > 300
    assert doubles({str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}) == {}


def test_the_check_itself_sees_doubles() -> None:
    found = doubles(
        {
            "a.py": "class Engine: ...\nclass _Row: ...\nLIMIT = 1\nT = TypeVar('T')\nFound = list[str]",
            "b.py": "if True:\n    class Engine: ...\nclass _Row: ...\nLIMIT = 2\nT = TypeVar('T')\nclass Found: ...",
            "c.py": "from a import Engine\nclass Other: ...",
        }
    )
    assert found == {"Engine": ["a.py", "b.py"], "Found": ["a.py", "b.py"]}
