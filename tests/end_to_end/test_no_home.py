"""A scheduled run that fails, for a user without a home folder: its reason, and the files written beside the
checkout."""

from __future__ import annotations

import pytest
from scheduled import MISTYPED, Scheduled

pytestmark = pytest.mark.slow


def test_a_run_that_fails_names_its_reason(scheduled: Scheduled) -> None:
    status, failed = scheduled.failed
    assert status != 0 and failed["state_type"] == "FAILED"
    message = failed["state"]["message"]
    assert f"no profile '{MISTYPED}'" in message and "smoke" in message


def test_no_run_writes_anything_beside_the_checkout(scheduled: Scheduled) -> None:
    """One that is stopped, one that trains, one that checks for regressions, and one that fails."""
    assert scheduled.beside == ["checkout", "ui.log"], "a home was made"
