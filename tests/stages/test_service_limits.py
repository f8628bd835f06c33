"""One client cannot exhaust the retrieval service: connections, seconds, bytes and passages have limits."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator, Sequence

import httpx
import pytest
import search_servers

from r1_searcher.retrieval.remote import messages
from r1_searcher.retrieval.remote.client import ServiceRetriever
from r1_searcher.retrieval.service import server
from r1_searcher.types.protocols import Passage

SECONDS = 0.4


class Wordy:
    """Finds k long passages for any query."""

    fingerprint = "f" * 64

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        return [[Passage(str(rank), query, "word " * 10_000, 1.0) for rank in range(k)] for query in queries]


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    limits = messages.Limits(max_bytes=2_000, max_passages=400)
    hosts = server.own_hosts("localhost", "127.0.0.1")
    chosen = server.Settings(seconds=SECONDS, max_connections_a_client=8, limits=limits, hosts=hosts)
    with search_servers.in_thread(Wordy(), chosen) as (url, _):
        yield "127.0.0.1", int(url.rsplit(":", 1)[1])


def ended(connection: socket.socket) -> bytes:
    """Return what is received until the server ends the connection."""
    connection.settimeout(10)
    got = b""
    try:
        while part := connection.recv(65_536):
            got += part
    except ConnectionResetError:
        pass
    return got


def answers(address: tuple[str, int]) -> bool:
    return httpx.get(f"http://{address[0]}:{address[1]}/health").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /sea",
        b"POST /search HTTP/1.1\r\nHost: localhost\r\nX-",
        b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ],
)
def test_a_request_that_does_not_come_is_not_waited_for(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        if b"{" in sent:  # it gets a reply, 408, and the connection may serve another
            connection.settimeout(10)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 408")
        else:
            ended(connection)
    assert answers(address)


def test_the_next_request_of_a_connection_is_not_waited_for_either(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.settimeout(10)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        time.sleep(0.1)  # the rest of the reply, in case it arrives in pieces
        connection.sendall(b"GET /hea")
        assert ended(connection).count(b"HTTP/1.1") == 0


def test_an_answer_that_nobody_reads_is_not_kept(address: tuple[str, int]) -> None:
    body = json.dumps({"queries": ["a"] * 4, "k": 90}).encode()  # about 18 MB
    head = (
        f"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(head.encode() + b"\r\n" + body)
        time.sleep(3 * SECONDS + 0.5)
        assert len(ended(connection)) < 15_000_000
    assert answers(address)


def test_one_address_has_so_many_connections(address: tuple[str, int]) -> None:
    open_ones = [socket.create_connection(address) for _ in range(8)]
    time.sleep(0.1)
    with socket.create_connection(address) as more:
        assert ended(more) == b""
    for connection in open_ones:
        connection.close()
    time.sleep(0.1)
    assert answers(address)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_plain_client_reads_why_its_request_is_too_large(address: tuple[str, int], chunked: bool) -> None:
    client = http.client.HTTPConnection(*address, timeout=10)
    body = b" " * 12_000
    parts = iter([body[:6_000], body[6_000:]]) if chunked else body
    client.request("POST", "/search", parts, {"Content-Type": "application/json"}, encode_chunked=chunked)
    answer = client.getresponse()
    assert (answer.status, b"at most 2000 bytes" in answer.read()) == (413, True)
    client.close()


def test_a_client_that_sends_everything_first_gets_the_reason_and_no_reset_connection() -> None:
    limits = messages.Limits(max_bytes=500_000)
    with search_servers.in_thread(Wordy(), server.Settings(limits=limits)) as (url, _):
        client = http.client.HTTPConnection("127.0.0.1", int(url.rsplit(":", 1)[1]), timeout=30)
        client.request("POST", "/retrieve", b" " * 20_000_000, {"Content-Type": "application/json"})
        answer = client.getresponse()
        assert (answer.status, b"at most 500000 bytes" in answer.read()) == (413, True)
        client.close()


def test_queries_times_k_has_a_limit_that_the_client_keeps_to(address: tuple[str, int]) -> None:
    url = f"http://{address[0]}:{address[1]}"
    refused = httpx.post(f"{url}/search", json={"queries": ["a"] * 5, "k": 90})
    assert (refused.status_code, "5 queries × k 90 are more" in refused.json()["detail"]) == (422, True)
    retriever = ServiceRetriever(search_servers.settings_for(url))
    assert [len(found) for found in retriever.search([str(number) for number in range(9)], 90)] == [90] * 9
    retriever.close()


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example", 421), ("localhost:1", 200), ("LOCALHOST", 200), ("127.0.0.1:8400", 200)]
)
def test_bound_to_this_machine_it_answers_to_its_own_names(address: tuple[str, int], host: str, status: int) -> None:
    url = f"http://{address[0]}:{address[1]}/health"
    assert httpx.get(url, headers={"Host": host}).status_code == status


def test_its_own_names() -> None:
    assert server.own_hosts("0.0.0.0", "0.0.0.0") == ()
    assert set(server.own_hosts("::1", "::1")) == {"[::1]", "localhost", "127.0.0.1"}
    assert server._host(b"[::1]:8400") == "[::1]"
