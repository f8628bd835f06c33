"""Servers on 127.0.0.1 that speak HTTP by hand: any bytes, at any speed."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

PAUSE = 0.02  # seconds between two pieces of a drip
LONGEST = 10.0  # seconds after which a server gives up, so that a client without limits does fail a test
Speak = Callable[[socket.socket], None]


@contextlib.contextmanager
def serve(speak: Speak) -> Iterator[str]:
    """Yield the address of a server that reads one request per connection and then speaks."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    done = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(LONGEST)
            connection.recv(65_536)
            speak(connection)

    def accept() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        done.set()
        accepting.join()
        listening.close()


def says(body: bytes, *headers: str, status: str = "200 OK") -> Speak:
    """Return a whole response, with its length unless that is among ``headers``."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")

    def speak(connection: socket.socket) -> None:
        connection.sendall(head)
        connection.sendall(body)  # separate: no copy of it in a process whose memory is measured

    return speak


def drips(start: bytes, piece: bytes) -> Speak:
    """Send ``start`` at once, then ``piece`` repeatedly while somebody listens."""

    def speak(connection: socket.socket) -> None:
        connection.sendall(start)
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            connection.sendall(piece)
            time.sleep(PAUSE)

    return speak


def in_turn(*speaks: Speak) -> Speak:
    """Use the first for the first connection, and so on; the last for all that follow."""
    left = list(speaks)

    def speak(connection: socket.socket) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(connection)

    return speak
