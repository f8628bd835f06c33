"""torch's threads sleep early at barriers, however a stage or a flow is started, unless the user sets otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("package", ["stages", "flows"])
@pytest.mark.parametrize(("given", "expected"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_the_spin_count_is_set_before_torch_is_imported(package: str, given: dict[str, str], expected: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    code = f"import os, sys, {package}; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env={**plain, **given}, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [expected, "False"]
