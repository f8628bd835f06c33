"""The Prefect server behind a flow: yours where PREFECT_API_URL is set, else a small one that is shared.

Prefect's own ephemeral server starts anew in every process (10–20 s each on two cores). This one is
started by the first flow, in the background while models load, serves the flows that follow, and ends
itself ``IDLE_SECONDS`` after the last of them. Its database is the project's ``.prefect/prefect.db``, so that
`make ui` (a full server on the same database) shows every run afterwards.

    python -m flows.server prepare   make or migrate the database (`make setup` does)
    python -m flows.server stop      end the shared server now
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import flows
from stages.contract.artefacts import write_json
from stages.contract.errors import PipelineError, command

IDLE_SECONDS = 60.0
START_SECONDS = 180.0  # the first start on a slow machine also makes the database
# What a server without UI and schedules can do without; each costs start or idle time.
LEAN = {
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
}


class Server:
    """A server that is there or on its way; ``url()`` waits for it. Keep the object while flows run:
    its lock tells the shared server that somebody needs it (the kernel drops it with the process)."""

    def __init__(self, home: Path | None = None) -> None:
        """Find a server, or begin to start one; returns at once."""
        self._given = os.environ.get("PREFECT_API_URL") or None
        self.home = home or Path(os.environ["PREFECT_HOME"])
        self._in_use: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if self._given is None:
            self.home.mkdir(parents=True, exist_ok=True)
            self._in_use = open(self.home / "in_use.lock", "w")  # noqa: SIM115  held as long as the object
            fcntl.flock(self._in_use, fcntl.LOCK_SH)  # waits only while a server is ending itself
            if _healthy_url(self.home) is None:
                self._process = _spawn(self.home)

    def url(self) -> str:
        """The API's address, once it answers; ``PipelineError`` where it does not."""
        if self._given is not None:
            if not _answers(self._given):
                raise PipelineError(
                    "no Prefect server answers",
                    where=f"PREFECT_API_URL={self._given}",
                    fix="start it, or unset the variable: a small server is then started for you",
                )
            return self._given
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            found = _healthy_url(self.home)
            if found is not None:
                return found
            if self._process is not None and self._process.poll() not in (None, 0):
                break
            time.sleep(0.1)
        log = self.home / "server.log"
        last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        raise PipelineError(f"the Prefect server did not start: {' '.join(last)}", where=str(log))

    def close(self) -> None:
        """Say that this process needs the server no more."""
        if self._in_use is not None:
            self._in_use.close()
            self._in_use = None


@contextlib.contextmanager
def prefect_server(meanwhile: Callable[[], None] | None = None) -> Iterator[str]:
    """Flows inside the block talk to a server; ``meanwhile`` is done while it starts.

    Prefect's log lines go to the server and not to the terminal: an error is raised anyway, and shown once.
    """
    server = Server()
    try:
        if meanwhile is not None:
            meanwhile()
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: server.url()}):
            yield server.url()
    finally:
        server.close()


def _healthy_url(home: Path) -> str | None:
    """The address of a running shared server, or None."""
    try:
        url = str(json.loads((home / "server.json").read_text())["url"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    return url if _answers(url) else None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _spawn(home: Path) -> subprocess.Popen[bytes]:
    """Start the shared server in a session of its own, so that Ctrl-C on a flow does not end it half-way."""
    with open(home / "server.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server", "serve"],
            cwd=flows.ROOT,
            env={**os.environ, **LEAN, "PREFECT_HOME": str(home.resolve()), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def serve(home: Path) -> None:
    """Be the shared server: bind a free port, write ``server.json`` once it is known, end when idle."""
    with open(home / "serve.lock", "w") as only_one:
        try:
            fcntl.flock(only_one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process was first; whoever asked finds that one
        import uvicorn
        from prefect.server.api.server import create_app

        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            state = home / "server.json"
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/api"
            app = create_app(ephemeral=True, final=True)
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=3))
            write_json(state, {"pid": os.getpid(), "url": url})
            threading.Thread(target=_end_when_idle, args=(server, home), daemon=True).start()
            try:
                server.run(sockets=[bound])
            finally:
                state.unlink(missing_ok=True)


def _end_when_idle(server: object, home: Path) -> None:
    """Watch the flows' lock; free for ``IDLE_SECONDS`` means that nobody needs the server."""
    free_since = time.monotonic()
    with open(home / "in_use.lock", "a") as lock:
        while True:
            time.sleep(1)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                free_since = time.monotonic()
                continue
            if time.monotonic() - free_since > IDLE_SECONDS:
                (home / "server.json").unlink(missing_ok=True)  # from here on nobody finds this server
                server.should_exit = True  # type: ignore[attr-defined]
                return  # closes the file, and with it the lock
            fcntl.flock(lock, fcntl.LOCK_UN)


def prepare(home: Path) -> None:
    """Make or migrate the database, so that the first flow need not (about 10 s, once)."""
    import asyncio

    home.mkdir(parents=True, exist_ok=True)
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())


def stop(home: Path) -> bool:
    """End the shared server; false where none ran."""
    try:
        process = int(json.loads((home / "server.json").read_text())["pid"])
        os.kill(process, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.server", description="The flows' shared Prefect server.")
    parser.add_argument("action", choices=("prepare", "serve", "stop"))
    action = parser.parse_args().action
    home = Path(os.environ["PREFECT_HOME"])
    if action == "prepare":
        prepare(home)
    elif action == "serve":
        serve(home)
    else:
        print("stopped" if stop(home) else "no shared server is running")


if __name__ == "__main__":
    raise SystemExit(command(main)())
