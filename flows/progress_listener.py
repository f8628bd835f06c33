"""Hear the progress of a stage's processes (``r1_searcher.progress_events``)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from r1_searcher.texts import parse_json

_LARGEST = 1 << 16  # bytes of an event


@contextlib.contextmanager
def listening(heard: Callable[[Mapping[str, Any]], None]) -> Iterator[str]:
    """Call ``heard`` with each event, in a thread of its own, until the block ends. Yields the address to put into the
    environment of the processes to hear. What is no event (not a JSON object) is ignored."""
    folder = Path(tempfile.mkdtemp(prefix="progress-"))  # closed to other users
    address = str(folder / "events")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(address)

            def read() -> None:
                while message := receiver.recv(_LARGEST):
                    try:
                        event = parse_json(message.decode("utf-8", errors="replace"))
                    except ValueError:
                        continue
                    if isinstance(event, dict):
                        heard(event)

            thread = Thread(target=read, name="progress events", daemon=True)
            thread.start()
            try:
                yield address
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                    last.sendto(b"", address)
                thread.join()
    finally:
        shutil.rmtree(folder)
