"""Each benchmark starts as docs/benchmarks.md says: `python benchmarks/NAME.py`, without installing the project."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCRIPTS = [
    file
    for file in sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))
    if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_the_project_is_on_the_path_before_it_is_imported(script: Path) -> None:
    body = ast.parse(script.read_text(encoding="utf-8")).body
    ours = [
        node.lineno for node in body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stages")
    ]
    paths = [
        node.lineno for node in ast.walk(ast.Module(body, [])) if isinstance(node, ast.Expr) and _extends_the_path(node)
    ]
    imports_later = "from stages" in script.read_text(encoding="utf-8")
    assert not imports_later or paths, "no sys.path.insert: the project cannot be imported"
    assert not ours or min(paths) < min(ours)


def _extends_the_path(node: ast.Expr) -> bool:
    return ast.unparse(node).startswith("sys.path.insert(0, str(")
