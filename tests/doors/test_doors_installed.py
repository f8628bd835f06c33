"""The packages of locks/doors.lock are installed beside the others, and change none of them."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def test_every_locked_version_is_the_installed_one() -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "locks/doors.lock")]
    found = re.findall(r"^([a-z0-9.-]+)==(\S+)( ; .+)? \\$", "".join(texts), re.M)
    wanted = {name: release for name, release, marker in found if applies(marker)}
    assert len(wanted) > 300
    assert {name: version(name).partition("+")[0] for name in wanted} == wanted


def applies(marker: str) -> bool:
    one = Requirement(f"x{marker}").marker
    return one is None or one.evaluate()
