"""Fetching released files: folders, mirrors, broken servers, wrong checksums."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from odd_servers import LONGEST, Speak, drips, says, serve

from r1_searcher.benchmarks.fetch import FETCHED_KIND, RETRIES, fetch
from r1_searcher.benchmarks.releases import Release, known, release_of
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import sha256_file
from r1_searcher.files.store import Store

CONTENT = b'{"idx": 1, "question": "Who?", "answer": "Ada"}\n' * 5000
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens


def release(address: str, content: bytes = CONTENT) -> Release:
    sha256 = hashlib.sha256(content).hexdigest()
    return Release("made", "made by hand", "made.jsonl", address, sha256, len(content), 5000, "none")


Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Replies to its requests with ``answers`` in turn, repeating the last one; records the paths."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [whole]
        self.paths: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.paths.append(self.path)
                server.answers[min(len(server.paths), len(server.answers)) - 1](self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/eval/"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def whole(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT)


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:1000])


def busy(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(503)


def missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def test_from_its_own_address_once(server: Server, store: Store) -> None:
    path = fetch(release(server.address), [], store)
    assert (path.name, path.read_bytes()) == ("made.jsonl", CONTENT)
    assert fetch(release(server.address), [], store) == path
    assert server.paths == ["/eval/made.jsonl"]


def test_a_folder_comes_before_the_address(tmp_path: Path, store: Store) -> None:
    (tmp_path / "made.jsonl").write_bytes(CONTENT)
    assert fetch(release(NOBODY), [str(tmp_path)], store).read_bytes() == CONTENT


def test_a_place_without_the_file_is_passed_over(server: Server, tmp_path: Path, store: Store) -> None:
    assert fetch(release(NOBODY), [str(tmp_path), str(tmp_path / "no"), server.address], store).read_bytes() == CONTENT


@pytest.mark.parametrize("trouble", [busy, cut_off])
def test_trouble_that_passes_is_waited_for(server: Server, store: Store, trouble: Answer) -> None:
    server.answers = [trouble, trouble, whole]
    assert fetch(release(server.address), [], store, backoff=0.01).read_bytes() == CONTENT
    assert len(server.paths) == 3


@pytest.mark.parametrize(
    ("answer", "tries", "said"),
    [
        (missing, 1, "the server says 404 Not Found"),
        (busy, RETRIES + 1, "503"),
        (cut_off, RETRIES, "the connection broke each time"),
    ],
)
def test_trouble_that_stays_is_one_line(server: Server, store: Store, answer: Answer, tries: int, said: str) -> None:
    server.answers = [answer]
    with pytest.raises(PipelineError) as error:
        fetch(release(server.address), [], store, backoff=0.001)
    line = str(error.value)
    assert "made.jsonl was not found" in line and said in line and server.address in line and "\n" not in line
    assert len(server.paths) == tries
    assert store.get(FETCHED_KIND, release("").sha256) is None


def test_nobody_there_and_no_folder_are_both_named(tmp_path: Path, store: Store) -> None:
    with pytest.raises(PipelineError) as error:
        fetch(release(NOBODY), [str(tmp_path / "mirror")], store, backoff=0.001)
    line = str(error.value)
    assert f"{tmp_path / 'mirror'}: no such file" in line
    assert f"{NOBODY}: " in line and "refused" in line.lower()
    assert "object at 0x" not in line


def test_another_file_under_the_same_name_is_refused(tmp_path: Path, server: Server, store: Store) -> None:
    """Even if another place has the right one: a tampered file must be reported."""
    (tmp_path / "made.jsonl").write_bytes(CONTENT[:-1])
    with pytest.raises(PipelineError, match="is not the released file") as error:
        fetch(release(server.address), [str(tmp_path)], store)
    assert str(error.value).startswith(str(tmp_path))
    assert store.entries() == [] and server.paths == []


def test_a_stored_file_that_was_changed_is_fetched_again(tmp_path: Path, store: Store) -> None:
    (tmp_path / "made.jsonl").write_bytes(CONTENT)
    path = fetch(release(NOBODY), [str(tmp_path)], store)
    path.write_bytes(CONTENT[1:])
    again = fetch(release(NOBODY), [str(tmp_path)], Store(store.root))
    assert again == path and path.read_bytes() == CONTENT
    [aside] = store.damaged()
    assert (aside.path / "made.jsonl").read_bytes() == CONTENT[1:]


def test_what_is_no_place_is_refused(store: Store) -> None:
    with pytest.raises(PipelineError, match="a folder, http:// or https://"):
        fetch(release(NOBODY), ["s3://bucket"], store)


def test_an_unknown_benchmark_lists_the_known() -> None:
    with pytest.raises(
        PipelineError, match=r"no released benchmark 'hotpot'.*known: .*2wiki, .*bamboogle, .*hotpotqa, "
    ):
        release_of("hotpot")


@pytest.mark.parametrize("name", known())
def test_releases_are_pinned(name: str) -> None:
    found = release_of(name)
    assert found.name == name and "-" not in name  # a stage is named policy-benchmark
    assert len(found.sha256) == 64 and int(found.sha256, 16)
    assert found.address.startswith("https://") and not found.address.endswith("/")


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(2_000):
            handler.wfile.write(bytes(100_000))


def bomb(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.end_headers()
    handler.wfile.write(gzip.compress(bytes(3_000_000)))


def test_a_place_that_sends_more_is_stopped(server: Server, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    own = sha256_file

    def noted(path: Path) -> str:
        written.append(path.stat().st_size)
        return own(path)

    monkeypatch.setattr("r1_searcher.benchmarks.fetch.sha256_file", noted)
    server.answers = [endless]
    with pytest.raises(PipelineError, match=f"not the released file: .* more than {len(CONTENT):,} bytes"):
        fetch(release(server.address), [], store)
    assert written == [len(CONTENT) + 1]


def test_an_encoded_file_is_not_taken(server: Server, store: Store) -> None:
    server.answers = [bomb]
    with pytest.raises(PipelineError, match="the server sends it encoded"):
        fetch(release(server.address), [], store)


def test_a_long_file_in_a_folder_is_not_copied_whole(tmp_path: Path, store: Store) -> None:
    (tmp_path / "made.jsonl").write_bytes(CONTENT + bytes(100))
    with pytest.raises(PipelineError, match="more than"):
        fetch(release(NOBODY), [str(tmp_path)], store)


def test_a_mirror_that_drips_is_given_up(server: Server, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1_searcher.benchmarks.fetch.LONGEST", 0.1)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(500):
                handler.wfile.write(b"x")
                time.sleep(0.02)

    server.answers = [drip]
    with pytest.raises(PipelineError, match="it was not whole after"):
        fetch(release(server.address), [], store)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["http://" + "a" * 300, "http://" + "a" * 300 + ".org", "http://[", "http://a..b"])
def test_an_address_that_cannot_be_is_one_line(address: str, store: Store) -> None:
    with pytest.raises(PipelineError, match="was not found"):
        fetch(release(NOBODY), [address], store, backoff=0.001)


HEAD = b"HTTP/1.1 200 OK\r\n"
HELD: dict[str, Speak] = {
    "status line": drips(b"HTTP/1.1 ", b"2"),
    "header": drips(HEAD + b"X-Long: ", b"x"),
    "100 Continue": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunk size": drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "redirects": says(b"", "Location: /next", "Connection: close", status="302 Found"),
}


@pytest.mark.slow
@pytest.mark.parametrize("by_proxy", [False, True])
@pytest.mark.parametrize("name", HELD)
def test_no_place_holds_a_fetch_for_longer_than_its_time(
    name: str, by_proxy: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r1_searcher.benchmarks.fetch.LONGEST", 0.2)
    began = time.monotonic()
    with serve(HELD[name]) as address:
        if by_proxy:
            monkeypatch.setenv("http_proxy", address)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
        place = "http://mirror.invalid" if by_proxy else address
        with pytest.raises(PipelineError, match=r"not whole after 0 s|redirects"):
            fetch(release(place), [], store, backoff=0.01)
    assert time.monotonic() - began < LONGEST / 2


def test_no_pause_is_longer_than_a_fetch_has(server: Server, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", "86400")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setattr("r1_searcher.benchmarks.fetch.LONGEST_PAUSE", 0.05)
    server.answers = [later, whole]
    assert fetch(release(server.address), [], store, backoff=0.01).read_bytes() == CONTENT
