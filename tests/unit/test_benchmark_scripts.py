"""Each benchmark starts as docs/benchmarks.md says: `python benchmarks/NAME.py`, without installing the project."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path

import pytest

from r1_searcher.errors import PipelineError

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


def test_passages_are_cut_out_of_released_transcripts(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("languages", next(one for one in SCRIPTS if one.stem == "languages"))
    assert spec is not None and spec.loader is not None
    languages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(languages)
    block = "\n(1)Jožef   Jožef Kos\nwas (1) a poet.\n(2)Ada Penn   She drew.\n(3)no title\n"
    text = f"<|begin_of_documents|>{block}<|end_of_documents|> so (4)x   y"
    rows = [{"answer": "a", "gen_text_store": 2 * text}, {"answer": "b", "gen_text_store": "none"}]
    file = tmp_path / "transcripts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert languages.passages_in(file) == [("Jožef", "Jožef Kos\nwas (1) a poet."), ("Ada Penn", "She drew.")]
    file.write_text(json.dumps(rows[1]), encoding="utf-8")
    with pytest.raises(PipelineError, match="no document block with titled passages"):
        languages.passages_in(file)
