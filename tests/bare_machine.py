"""A machine with torch and transformers, what these two require, and nothing else: a folder of links to their files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # tests import the kit as `gpu_check`, after this module
# typer is transformers' own command line, which brings pydantic: machines with older versions have no pydantic.
LEFT_OUT = ("typer",)


def requirements(*names: str) -> dict[str, metadata.Distribution]:
    """Return the installed distributions that ``names`` require, and those that these require, by their names."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name in LEFT_OUT:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system or Python
        for line in found[name].requires or ():
            if "extra ==" not in line:
                waiting.append(re.match(r"[\w.-]+", line)[0])  # type: ignore[index]
    return found


def make(folder: Path, *more: str) -> Path:
    """Fill ``folder`` with links to torch, transformers, and the packages in ``more``; return it."""
    folder.mkdir(parents=True)
    for found in requirements("torch", "transformers", *more).values():
        tops = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            place = Path(str(found.locate_file(top)))
            if place.exists() and not (folder / top).exists():
                (folder / top).symlink_to(place)
    return folder


def carried(folder: Path, *more: str) -> Path:
    """Copy what docs/gpu.md says to carry to a machine, and ``more`` of this checkout; return ``folder``."""
    line = re.search(r"^ +git archive .* HEAD (.*)$", (ROOT / "docs/gpu.md").read_text(encoding="utf-8"), re.M)
    assert line, "docs/gpu.md says what to carry"
    for name in (*line[1].split(), *more):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


def run(packages: Path, *arguments: str, timeout: float, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a fresh Python that sees ``root`` and ``packages`` alone."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{root}{os.pathsep}{packages}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
