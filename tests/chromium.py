"""A real headless Chromium, controlled through the DevTools protocol over two pipes: needs no package and no port."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

MUST = "R1_SEARCHER_TEST_BROWSER"  # set by `make test-browser`: a missing browser is then a failure
HOW = (
    "no Chromium or Chrome on PATH: apt-get install chromium (Debian), brew install --cask chromium (macOS), "
    "or pip install playwright && playwright install --with-deps chromium"
)
_NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome", "chromium-headless-shell")
_OF_PLAYWRIGHT = (
    *("chromium-*/chrome-linux*/chrome", "chromium_headless_shell-*/chrome-*/*headless*shell"),
    *("chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium",),
)
_CACHES = (".cache/ms-playwright", "Library/Caches/ms-playwright")
APPLICATIONS = Path("/Applications")
_MACOS = ("Chromium.app/Contents/MacOS/Chromium", "Google Chrome.app/Contents/MacOS/Google Chrome")
_SECONDS = 60.0  # for a reply of the browser on a busy machine
# Chromium's own checks that a page may not reach this machine are off: the servers must hold without them.
_UNDONE = "LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights"
# The first two pipes of a new process, as --remote-debugging-pipe expects them.
_LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


def program() -> str:
    """Return this machine's Chromium or Chrome. Without one the test is skipped, or fails if it is required."""
    found = next((program for name in _NAMES if (program := shutil.which(name))), None)
    if found is None:
        cache = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
        folders = [Path(cache)] if cache else [Path.home() / place for place in _CACHES]
        there = [path for folder in folders for pattern in _OF_PLAYWRIGHT for path in sorted(folder.glob(pattern))]
        there += [path for name in _MACOS if (path := APPLICATIONS / name).exists()]
        found = str(there[0]) if there else None
    if found is None:
        (pytest.fail if os.environ.get(MUST) else pytest.skip)(HOW)
    return found


class Browser:
    """``names``: rules as in --host-resolver-rules; nothing else is resolved, and no network is used."""

    def __init__(self, folder: Path, names: Sequence[str] = ()) -> None:
        chosen = program()
        rules = ", ".join([*names, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1", "EXCLUDE localhost"])
        (read, self._write), (self._read, write) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read, write)]  # 3 and 4 must be theirs
        options = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--remote-debugging-pipe", "--disable-background-networking", "--disable-component-update"),
            *(f"--user-data-dir={folder}", f"--host-resolver-rules={rules}", f"--disable-features={_UNDONE}"),
        ]
        self._log = open(folder / "chromium.log", "wb")  # noqa: SIM115  as long as the browser
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *map(str, ends), chosen, *options],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        for end in (read, write, *ends):
            os.close(end)
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._news = threading.Condition()
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while part := os.read(self._read, 1 << 16):
                *whole, rest = (rest + part).split(b"\0")
                for message in map(json.loads, whole):
                    with self._news:
                        if "id" in message:
                            self._answers[message["id"]] = message
                        else:
                            self.events.append(message)
                        self._news.notify_all()
                    if message.get("method") == "Page.javascriptDialogOpening":  # a page waits for its end
                        self._send("Page.handleJavaScriptDialog", {"accept": True}, message["sessionId"])

    def _send(self, method: str, params: dict[str, Any], session: str | None) -> int:
        with self._news:
            self._number += 1
            number = self._number
            message = {"id": number, "method": method, "params": params}
            if session:
                message["sessionId"] = session
            data = json.dumps(message).encode() + b"\0"
            while data:
                data = data[os.write(self._write, data) :]
        return number

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command of the protocol; returns its result."""
        number = self._send(method, params, session)
        with self._news:
            assert self._news.wait_for(lambda: number in self._answers, _SECONDS), self._said(f"{method}: no answer")
            answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        found: dict[str, Any] = answer["result"]
        return found

    def wait(self, method: str, session: str, start: int) -> None:
        """Wait until there is such an event among those from ``start`` on."""

        def there() -> bool:
            return any(one["method"] == method and one.get("sessionId") == session for one in self.events[start:])

        with self._news:
            assert self._news.wait_for(there, _SECONDS), self._said(f"no {method}")

    def _said(self, fault: str) -> str:
        return f"{fault}; {Path(self._log.name).read_text(errors='replace')[-2000:]}"

    def tab(self) -> Tab:
        """Open a new, empty page."""
        return Tab(self)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        self._log.close()


class Tab:
    """A page, and its events."""

    NOTED = ("Page", "Runtime", "Network", "Log")

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in self.NOTED:
            browser.call(f"{domain}.enable", self._session)
        self._start = len(browser.events)

    def open(self, url: str) -> str:
        """Navigate and wait until the page is complete; returns its visible text."""
        self._start = len(self._browser.events)
        self._browser.call("Page.navigate", self._session, url=url)
        self._browser.wait("Page.loadEventFired", self._session, self._start)
        return str(self.run("document.documentElement.innerText"))

    def run(self, script: str) -> Any:
        """Return the value of a script, which may be a promise."""
        found = self._browser.call(
            "Runtime.evaluate", self._session, expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def happened(self, *methods: str) -> list[dict[str, Any]]:
        """Return the events of these kinds since the page was opened."""
        of_it = [one for one in self._browser.events[self._start :] if one.get("sessionId") == self._session]
        return [one["params"] for one in of_it if one["method"] in methods]

    def asked(self) -> list[str]:
        """Return the addresses of all requests since the page was opened."""
        return [one["request"]["url"] for one in self.happened("Network.requestWillBeSent")]


@contextlib.contextmanager
def opened(folder: Path, names: Sequence[str] = ()) -> Iterator[Browser]:
    """Run a browser with its own profile in ``folder``."""
    browser = Browser(folder, names)
    try:
        yield browser
    finally:
        browser.close()


def settled(tab: Tab) -> None:
    """Wait for what a page has begun."""
    tab.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")
    time.sleep(0.05)
