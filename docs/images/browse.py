"""Take the pictures of docs/browse.md from a finished run: python docs/images/browse.py [FOLDER] (default: this one).

Needs Playwright (the extra dev) and Chromium.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from chromium import program

IMAGES = Path(__file__).resolve().parent
SIZE = {"width": 1340, "height": 780}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def pictures(page: Page, base: str) -> None:
    """Take one picture per view."""
    page.locator("#notes progress").wait_for(state="detached")
    page.goto(f"{base}/?kind=training&min_searches=2&sort=advantage&order=desc")
    page.locator("fieldset label").first.wait_for()
    page.screenshot(path=IMAGES / "browse-table.png")
    page.locator("tbody a").first.click()
    page.locator(".transcript").wait_for()
    page.locator(".policy .token").nth(1).hover()
    page.screenshot(path=IMAGES / "browse-trajectory.png")
    page.emulate_media(color_scheme="dark")
    page.goto(f"{base}/?view=curves")
    page.locator(".tiles").wait_for()
    page.screenshot(path=IMAGES / "browse-curves.png")


def main() -> None:
    """Serve the folder, look at it, end."""
    command = [sys.executable, "-m", "r1_searcher", "browse", *sys.argv[1:], "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        browser = playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
        page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        page.goto(address)
        page.locator("tbody tr").first.wait_for()
        pictures(page, address.partition("/?")[0])
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
