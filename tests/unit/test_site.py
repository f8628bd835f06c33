"""The docs' site: every page is in its navigation, nothing is loaded from elsewhere, and missing parts stop the build.

`make docs`, a part of `make test`, builds the whole; here a small one is built with the same settings.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation_once() -> None:
    named = re.findall(r"([\w-]+\.md)$", SETTINGS.split("\nnav:")[1], re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_reference_names_modules_of_the_library() -> None:
    named = re.findall(r"^::: (\S+)$", (ROOT / "docs/reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) > 10
    for module in named:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def built(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    (folder / "docs").mkdir()
    (folder / "docs/index.md").write_text(page, encoding="utf-8")
    settings = SETTINGS.split("\nnav:")[0].replace("paths: [.]", f"paths: [{ROOT}]")
    (folder / "mkdocs.yml").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = built(tmp_path, "# A page\n\n::: r1_searcher.errors\n")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "PipelineError" in page
    assert not re.search(r"(src=|<link [^>]*href=)[\"']?(https?:)?//", page)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("[a link](nowhere.md)", "nowhere.md"),
        ("[an anchor](#nowhere)", "nowhere"),
        ("::: r1_searcher.nowhere", "nowhere"),
    ],
)
def test_what_is_missing_stops_it(page: str, said: str, tmp_path: Path) -> None:
    done = built(tmp_path, f"# A page\n\n{page}\n")
    assert done.returncode == 1 and said in done.stderr + done.stdout
