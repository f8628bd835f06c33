"""Take the picture of docs/serve.md from a finished run: python docs/images/chat.py (in its folder).

Needs Playwright (the extra dev) and Chromium.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from chromium import program

IMAGE = Path(__file__).resolve().parent / "chat.png"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> None:
    """Serve the last policy, ask it the first question to try, unfold what it found."""
    command = [sys.executable, "-m", "r1_searcher", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        browser = playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1000, "height": 720}, color_scheme="light")
        page.goto(address)
        page.locator("#tries button").first.click()
        page.locator(".answer").wait_for()
        page.locator("article ul li").first.wait_for()
        page.locator("summary").first.click()
        page.screenshot(path=IMAGE)
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
