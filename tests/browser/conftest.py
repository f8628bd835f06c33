"""One browser for all of these tests; it resolves evil.example to this machine."""

from __future__ import annotations

from collections.abc import Iterator

import chromium
import pytest

EVIL = "evil.example"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.opened(tmp_path_factory.mktemp("chromium"), [f"MAP {EVIL} 127.0.0.1"]) as opened:
        yield opened
