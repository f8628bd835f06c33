"""One smoke run for all tests here: deployed, interrupted, and rerun to its end, as by a user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scheduled import Scheduled, schedule


@pytest.fixture(scope="session")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduled]:
    """The results of the scheduled smoke run, and its server's records."""
    yield schedule(tmp_path_factory.mktemp("smoke") / "checkout")


@pytest.fixture(scope="session")
def checkout(scheduled: Scheduled) -> Path:
    """The workspace of that run, in which `dvc repro` has nothing to do."""
    return scheduled.workspace
