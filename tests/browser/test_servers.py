"""In a real browser: pages of other origins, and of names that resolve to this machine, get nothing out of the
servers."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import search_servers
from chromium import Browser

from flows import access
from flows.server import PrefectServer
from flows.ui import PageServer
from r1_searcher.retrieval.service import server as service
from r1_searcher.types.protocols import Passage

EVIL = "evil.example"
ATTACK = (Path(__file__).parent / "attack.js").read_text(encoding="utf-8")
SECRET, PLANTED = "a-flow-of-the-user", "planted"
PREFECT = [
    ("GET", "/api/admin/version", None),
    ("POST", "/api/flows/filter", {}),
    ("POST", "/api/flows/", {"name": PLANTED}),
    ("POST", "/api/work_pools/", {"name": PLANTED, "type": "process"}),
]
SOCKETS = ["/api/events/in", "/api/events/out", "/api/logs/out"]
SEARCH = [
    ("GET", "/health", None),
    ("GET", "/metrics", None),
    ("POST", "/search", {"queries": [PLANTED], "k": 1}),
    ("POST", "/retrieve", {"queries": [PLANTED]}),
    ("POST", "/queries", {"queries": [PLANTED]}),
]


class Pages(http.server.BaseHTTPRequestHandler):
    """The attacker's own pages; and, as a control, a server that any origin may read."""

    posted: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        self._answer(b"<!doctype html><body>a page of others</body>" if self.path == "/page" else SECRET.encode())

    def do_POST(self) -> None:
        self.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(SECRET.encode())

    def do_OPTIONS(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
        self.send_header("Access-Control-Allow-Credentials", "true")
        self.send_header("Access-Control-Allow-Headers", "content-type, authorization")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def pages() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving.server_port
        serving.shutdown()


@pytest.fixture(scope="module")
def foreign() -> Iterator[str]:
    """Return the address of a page whose origin differs from all others here, by its port."""
    with pages() as port:
        yield f"http://127.0.0.1:{port}/page"


@dataclass(frozen=True)
class Prefect:
    base: str
    password: str

    def flows(self) -> list[str]:
        """Return the names of the flows that the server knows, as its user."""
        return sorted(one["name"] for one in self.post("flows/filter", {}))

    def pools(self) -> list[str]:
        return sorted(one["name"] for one in self.post("work_pools/filter", {}))

    def post(self, path: str, body: object) -> Any:
        headers = {"Content-Type": "application/json", **access.header(self.password)}
        request = urllib.request.Request(f"{self.base}/api/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)


@contextlib.contextmanager
def of_make_ui(home: Path) -> Iterator[Prefect]:
    """The server of `make ui`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    password = access.new_password()
    environment = {**os.environ, "PREFECT_HOME": str(home), access.SERVER_AUTH_VARIABLE: password}
    environment |= {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", access.CLIENTS: password}
    with contextlib.closing(PageServer(port, environment, home / "ui.log")) as made:
        made.wait()
        yield Prefect(f"http://127.0.0.1:{port}", password)


@contextlib.contextmanager
def of_make_train(home: Path) -> Iterator[Prefect]:
    """The small server of `make train` and of every flow."""
    made = PrefectServer(home)
    found = made.found()
    try:
        yield Prefect(found.url.removesuffix("/api"), found.password)
    finally:
        os.kill(int(found.pid or 0), signal.SIGKILL)
        made.close()


SERVERS = {"make train": of_make_train, "make ui": of_make_ui}


@pytest.fixture(scope="module")
def prefects(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[dict[str, Prefect]]:
    """Both, on one database with private content."""
    home = tmp_path_factory.mktemp("prefect") / "home"
    given = os.environ.pop("PREFECT_API_URL", None)
    with contextlib.ExitStack() as running:
        made = {name: running.enter_context(way(home)) for name, way in SERVERS.items()}  # the first makes the database
        made["make ui"].post("flows/", {"name": SECRET})
        yield made
    if given is not None:
        os.environ["PREFECT_API_URL"] = given


def attacked(browser: Browser, page: str, base: str, requests: Sequence[Any], sockets: Sequence[str]) -> dict[str, str]:
    """Return what each attack from a foreign page achieved."""
    tab = browser.tab()
    tab.open(page)
    call = f"attack({json.dumps(base)}, {json.dumps(requests)}, {json.dumps(sockets)})"
    came: dict[str, str] = tab.run(f"{ATTACK}\n{call}")
    return came


def test_the_attack_itself_does_get_in_where_a_server_is_open(browser: Browser, foreign: str) -> None:
    Pages.posted.clear()
    with pages() as port:
        came = attacked(browser, foreign, f"http://127.0.0.1:{port}", PREFECT[:2], [])
    assert {way for way, what in came.items() if what == f"read 200 {SECRET}"} >= {
        *("GET /api/admin/version", "POST /api/flows/filter", "POST /api/flows/filter, as JSON"),
    }
    assert came["POST /api/flows/filter, unseen"] == "unseen"
    assert sorted(Pages.posted) == [b'{"_":"="}\r\n', *[b"{}"] * 5]


@pytest.mark.parametrize("name", SERVERS)
def test_a_page_of_another_origin_gets_nothing_out_of_prefect(
    browser: Browser, foreign: str, prefects: dict[str, Prefect], name: str
) -> None:
    target = prefects[name]
    came = attacked(browser, foreign, target.base, PREFECT, SOCKETS)
    assert {way: what for way, what in came.items() if what not in ("refused", "unseen")} == {}
    assert len(came) == 4 * 7 + 3 + 2 * 3
    assert target.flows() == [SECRET] and target.pools() == []


@pytest.mark.parametrize("name", SERVERS)
def test_a_name_that_leads_to_this_machine_gets_nothing_out_of_prefect(
    browser: Browser, prefects: dict[str, Prefect], name: str
) -> None:
    """DNS rebinding: to the browser it is the page's own origin."""
    target = prefects[name]
    base = target.base.replace("127.0.0.1", EVIL)
    tab = browser.tab()
    assert tab.open(f"{base}/api/health").strip() == "Invalid host header"
    came = tab.run(f"{ATTACK}\nattack('', {json.dumps(PREFECT)}, [])")
    assert SECRET not in json.dumps(came)
    assert {what for way, what in came.items() if way.startswith(("GET", "POST"))} == {"read 400 Invalid host header"}
    assert target.flows() == [SECRET] and target.pools() == []


def test_its_own_page_reads_prefect_with_the_password_alone(browser: Browser, prefects: dict[str, Prefect]) -> None:
    target = prefects["make ui"]
    tab = browser.tab()
    tab.open(target.base)
    ask = "fetch('/api/flows/filter', {method: 'POST', headers: %s}).then(async a => [a.status, await a.text()])"
    status, text = tab.run(ask % json.dumps(access.header(target.password)))
    assert status == 200 and SECRET in text
    status, text = tab.run(ask % "{}")
    assert status == 401 and SECRET not in text


def test_no_page_elsewhere_can_frame_the_page(browser: Browser, foreign: str, prefects: dict[str, Prefect]) -> None:
    """Otherwise a click on something harmless could be a click on one of its buttons."""
    tab = browser.tab()
    tab.open(foreign)
    for base, blocked in ((foreign.removesuffix("/page"), False), (prefects["make ui"].base, True)):
        tab.run(f"{ATTACK}\nload('iframe', {json.dumps(base + '/')})")
        failed = [one.get("blockedReason", "") for one in tab.happened("Network.loadingFailed")]
        assert bool(failed) == blocked, failed


class Noting:
    """A retriever that records its queries."""

    fingerprint = "f" * 64

    def __init__(self) -> None:
        self.asked: list[str] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.asked += queries
        return [[Passage("p", SECRET, SECRET, 1.0)] for _ in queries]


def test_no_page_elsewhere_searches_or_reads_the_retrieval_service(browser: Browser, foreign: str) -> None:
    retriever = Noting()
    own = service.Settings(hosts=service.own_hosts("127.0.0.1", "127.0.0.1"))
    with search_servers.in_thread(retriever, own) as (url, _):
        came = attacked(browser, foreign, url, SEARCH, [])
        assert {way: what for way, what in came.items() if what not in ("refused", "unseen")} == {}
        tab = browser.tab()
        tab.open(f"{url.replace('127.0.0.1', EVIL)}/health")
        came = tab.run(f"{ATTACK}\nattack('', {json.dumps(SEARCH)}, [])")
        assert {what[:8] for way, what in came.items() if way.startswith(("GET", "POST"))} == {"read 421"}
        assert SECRET not in json.dumps(came) and retriever.asked == []
        tab.open(f"{url}/health")  # its own origin: the browser can send requests, and a search is recorded
        ask = "fetch('/search', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: %s})"
        body = json.dumps(json.dumps({"queries": ["ada"], "k": 1}))
        assert SECRET in tab.run(f"{ask % body}.then(answer => answer.text())")
        assert retriever.asked == ["ada"]
