"""A scheduled run that fails, for a user without a home folder: its reason, and the files written beside the
checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
from scheduled import PIPELINE, Scheduled, ask, copy_checkout, run, serving

pytestmark = pytest.mark.slow

MISTYPED = "smok"  # a profile that does not exist


def test_a_run_that_fails_names_its_reason_and_writes_nothing_beside_the_checkout(tmp_path: Path) -> None:
    root, log = tmp_path / "checkout", tmp_path / "ui.log"
    home = {"HOME": str(tmp_path / "nobody")}
    copy_checkout(root)
    with serving(root, log, Scheduled(root / ".workspaces" / "smoke"), **home) as api:
        command = ("prefect", "deployment", "run", PIPELINE, "--param", f"profile={MISTYPED}", "--watch")
        watched = run(root, *command, **home)
        (failed,) = [found for found in ask(api, "flow_runs") if found["parameters"].get("profile") == MISTYPED]
    assert watched.returncode != 0 and failed["state_type"] == "FAILED"
    message = failed["state"]["message"]
    assert f"no profile '{MISTYPED}'" in message and "smoke" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkout", "ui.log"], "a home was made"
