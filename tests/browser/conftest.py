"""Browsers for these tests: one that resolves evil.example to this machine, and one that Playwright drives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

import chromium
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_ARGUMENTS += ["--disable-sync", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]

EVIL = "evil.example"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.opened(tmp_path_factory.mktemp("chromium"), [f"MAP {EVIL} 127.0.0.1"]) as opened:
        yield opened


@pytest.fixture(scope="module")  # no longer: while it runs, its thread can run no other event loop
def driven() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)
    program = chromium.program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def axe() -> Callable[[Page], list[tuple[str, list[str]]]]:
    """What axe finds wrong in a page: rules with the first elements that break them. The page's context needs
    ``bypass_csp``, because axe is a script of ours."""
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")

    def broken(page: Page) -> list[tuple[str, list[str]]]:
        page.evaluate(script)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found["violations"]]

    return broken
