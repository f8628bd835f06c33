"""Every folder of tests is run by `make test`, or by `make test-engines` or `make test-doors`, which continuous
integration runs after it; and continuous integration runs the code gate."""

from __future__ import annotations

import tomllib
from pathlib import Path

import chromium
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_every_folder_with_tests_is_run() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    quick = {ROOT / place for place in settings["tool"]["pytest"]["ini_options"]["testpaths"]}
    folders = {file.parent for file in (ROOT / "tests").rglob("test_*.py")}
    assert folders - quick == {ROOT / "tests/engines", ROOT / "tests/doors"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "pytest $(PARALLEL) tests/engines;" in makefile and "pytest $(PARALLEL) tests/doors\n" in makefile
    *_, test, gate, engines, doors = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert (test, gate) == ("make test < /dev/null", "make code-gate < /dev/null")
    assert engines.partition("  #")[0] == "make test-engines WORKERS=2 < /dev/null"
    assert doors == "exec make test-doors < /dev/null"


def test_the_workflow_runs_the_tests_in_a_browser_and_they_cannot_be_skipped_there() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert "make test-browser" in [step.get("run", "").strip() for step in jobs["test"]["steps"]]
    assert f"@{chromium.MUST}=1 $(BIN)/python -m pytest tests/browser\n" in (ROOT / "Makefile").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(("must", "end"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_a_browser_it_is_said_how_to_get_one(
    must: str, end: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setenv(chromium.MUST, must)
    monkeypatch.setattr(chromium, "APPLICATIONS", tmp_path)
    with pytest.raises(end, match=r"apt-get install chromium .* playwright install"):
        chromium.program()
    shell = tmp_path / "chromium-1200/chrome-linux64/chrome"
    shell.parent.mkdir(parents=True)
    shell.touch()
    assert chromium.program() == str(shell)


def test_the_workflow_asks_both_regression_gates_and_shows_their_verdicts() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    steps = [step.get("run", "") for step in jobs["regression"]["steps"]]
    assert "make regression MARKDOWN=verdict.md" in steps
    assert any("verdict.md >> " in step for step in steps)
