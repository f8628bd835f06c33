"""The command `r1-searcher`: help of every sub-command, its imports, completion, and folders that are no checkout."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from r1_searcher.cli.app import COMMANDS, Checkout, Library, app
from r1_searcher.params import SHIPPED, Params, shipped

ROOT = Path(__file__).resolve().parents[2]
RUNNER = CliRunner()
HEAVY = {"numpy", "pyarrow", "pydantic", "yaml", "rich", "httpx", "torch", "transformers", "prefect", "dvc"}


def test_the_top_names_every_command_with_examples() -> None:
    shown = RUNNER.invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert "\nexamples:\n" in shown.output.replace("\n  examples:", "\nexamples:")
    for name, found in COMMANDS.items():
        assert f"  {name}  " in shown.output
        assert found.about.split(",")[0].split()[0] in shown.output


@pytest.mark.parametrize("name", [name for name, found in COMMANDS.items() if isinstance(found, Library)])
def test_help_of_what_runs_anywhere(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name].run(name, ["--help"])
    assert not ended.value.code
    shown = capfd.readouterr().out
    assert shown.startswith(f"usage: r1-searcher {name} ")
    assert f"examples:\n  r1-searcher {name}" in shown


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Return a command's parser, and those of its sub-commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.mark.parametrize(
    "module",
    sorted({found.module for found in COMMANDS.values() if isinstance(found, Library) and ".cli." in found.module}),
)
def test_every_help_has_examples_that_the_command_takes(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed in the checkout, where a path inside a stage's outputs is refused."""
    monkeypatch.chdir(ROOT)
    top = importlib.import_module(module).parser()
    for parser in parsers(top):
        shown = re.findall(r"^  (r1-searcher .*)$", parser.format_help().split("examples:\n")[-1], re.MULTILINE)
        assert shown, parser.prog
        for line in shown:
            assert line.startswith(parser.prog), line
            words = shlex.split(line.partition(" > ")[0].removesuffix(">"))
            top.parse_args(words[len(top.prog.split()) :])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_each_shell(shell: str) -> None:
    asked = {"_R1_SEARCHER_COMPLETE": f"source_{shell}"}
    shown = RUNNER.invoke(app, [], env=asked, prog_name="r1-searcher")
    assert shown.exit_code == 0 and "r1-searcher" in shown.output and f"complete_{shell}" in shown.output


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, found in COMMANDS.items() if isinstance(found, Checkout)])
def test_what_needs_a_checkout_says_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert COMMANDS[name].run(name, []) == 2
    done = subprocess.run(
        [sys.executable, "-m", "r1_searcher", name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and f"`r1-searcher {name}` needs a checkout of the project" in done.stderr


@pytest.mark.parametrize("name", [name for name, found in COMMANDS.items() if isinstance(found, Checkout)])
def test_what_a_checkout_runs_is_there(name: str) -> None:
    found = COMMANDS[name]
    assert isinstance(found, Checkout)
    if found.command[0] == "make":
        assert f"\n{found.command[1]}: setup" in (ROOT / "Makefile").read_text(encoding="utf-8")
    else:
        module = ROOT.joinpath(*found.command[0].split("."))
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()


@pytest.mark.slow
def test_a_command_of_the_checkout_runs_there_with_its_status_and_its_words() -> None:
    """`plan` of a missing profile: the stage's own line and status."""
    done = subprocess.run(
        [sys.executable, "-m", "r1_searcher", "plan", "no-such-profile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "no profile 'no-such-profile'" in done.stderr


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "r1_searcher", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer.main" in loaded and loaded & HEAVY == set()
    assert [name for name in loaded if name.startswith("r1_searcher.") and ".cli" not in name] == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("r1-searcher sea", {"search"}),
        ("r1-searcher search --in", {"--index"}),
        ("r1-searcher compare --m", {"--margin", "--markdown"}),
        ("r1-searcher evaluate ga", {"gather"}),
    ],
)
def test_the_shell_completes_names_and_options(typed: str, offered: set[str]) -> None:
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_R1_SEARCHER_COMPLETE": "complete_bash"}
    shown = RUNNER.invoke(app, [], env=asked, prog_name="r1-searcher")
    assert set(shown.output.split()) == offered


def test_the_shipped_parameters_are_whole_and_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert COMMANDS["params"].run("params", []) == 0
    assert capfd.readouterr().out == SHIPPED.read_text(encoding="utf-8")
    assert Params.model_validate(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))) == shipped()


def test_profiles_and_values_are_laid_over_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("rollout: {k: 3}\ntrain: {stage1: {learning_rate: 0.5}}\n")
    assert COMMANDS["params"].run("params", [str(profile), "--set", "rollout.k=4"]) == 0
    made = yaml.safe_load(capfd.readouterr().out)
    raw = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    raw["rollout"]["k"], raw["train"]["stage1"]["learning_rate"] = 4, 0.5
    assert made == raw
    profile.write_text("rollout: {kk: 3}\n")
    assert COMMANDS["params"].run("params", [str(profile)]) == 2
    assert COMMANDS["params"].run("params", [str(tmp_path / "none.yaml")]) == 2
    told = capfd.readouterr()
    assert told.out == "" and "mine.yaml, rollout.kk: unknown parameter" in told.err
    assert "none.yaml: cannot be read: No such file or directory" in told.err


def test_without_its_package_the_version_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    shown = RUNNER.invoke(app, ["--version"])
    assert shown.exit_code == 0 and shown.output == "not installed, run from a checkout\n"


def test_the_shipped_parameters_are_those_that_are_committed() -> None:
    """In git both are the same file; the user's changes to params.yaml do not matter here."""
    files = ["params.yaml", SHIPPED.relative_to(ROOT).as_posix()]
    texts = [
        subprocess.run(["git", "show", f"HEAD:{name}"], cwd=ROOT, capture_output=True, check=False) for name in files
    ]
    if any(one.returncode for one in texts):
        pytest.skip("not a git checkout, or not committed yet")
    assert texts[0].stdout == texts[1].stdout, f"cp {files[0]} {files[1]}"
