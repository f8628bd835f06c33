"""Real retrieval services on 127.0.0.1: the command in its own process, or any retriever in a thread."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from r1_searcher.params import Service
from r1_searcher.retrieval.service import server
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity

ROOT = Path(__file__).resolve().parents[1]


def settings_for(url: str, **changes: object) -> Service:
    """Return the client's parameters."""
    return Service.model_validate({"url": url, "fingerprint": "", "timeout": 10.0, "wait": 20.0, **changes})


class Command:
    """``python -m stages.index serve`` over an index folder. The same port at every start."""

    def __init__(self, index: Path, *more: str) -> None:
        self.index, self.more, self.port = index, more, 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; returns when it listens."""
        self.process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "stages.index",
                    "--params",
                    str(ROOT / "r1_searcher/params/defaults.yaml"),
                    "serve",
                ),
                *("--index", str(self.index), "--port", str(self.port), *self.more),
            ],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(3)]
        assert lines[2].startswith("http://127.0.0.1:"), lines
        self.port = int(lines[2].rsplit(":", 1)[1])

    def kill(self) -> None:
        """Kill it at once, like a power cut."""
        self.end(kill=True)

    def end(self, *, kill: bool = False) -> int:
        """Stop it (SIGTERM) and return its exit status."""
        assert self.process is not None
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@contextlib.contextmanager
def command(index: Path, *more: str) -> Iterator[Command]:
    """A running server process."""
    served = Command(index, *more)
    served.start()
    try:
        yield served
    finally:
        if served.process is not None and served.process.poll() is None:
            served.kill()


@contextlib.contextmanager
def in_thread(retriever: Retriever, settings: server.Settings | None = None) -> Iterator[tuple[str, uvicorn.Server]]:
    """Run a server in this process over any retriever; yields its address and itself."""
    chosen = settings or server.Settings()
    app = server.make_app(retriever, Identity(retriever.fingerprint, "a corpus", "a test's"), "test", chosen)
    made = server.make_server(app, chosen)
    with server.bind("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", made
        finally:
            made.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def queries_of(words: Sequence[str], number: int) -> list[str]:
    """Return so many different queries of two words."""
    return [f"{words[place % len(words)]} {words[(place // len(words)) % len(words)]}" for place in range(number)]
