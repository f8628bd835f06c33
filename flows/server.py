"""The Prefect server behind a flow: yours if PREFECT_API_URL is set, else a small shared one.

Prefect's own ephemeral server starts anew in every process (10–20 s each on two cores). This one is started by the
first flow, in the background while models load, serves the following flows, and exits a minute after the last of them.
Its database is the project's ``.prefect/prefect.db``, so `make ui` (a full server on the same database) later shows
every run. It only keeps records: if it dies or hangs during a run, it is restarted, and the run goes on.

    python -m flows.server prepare   make or migrate the database (`make setup` does)
    python -m flows.server stop      end the shared server now
    python -m flows.server page      the server with its page alone (`make ui` starts it with a worker)
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

import flows
from flows import access
from flows.server_process import HISTORY, page, prepare, serve, set_aside_broken_database
from r1_searcher.errors import PipelineError, command
from r1_searcher.shown import show
from r1_searcher.texts import parse_json

START_SECONDS = 180.0  # the first start on a slow machine also creates the database
_LOOK_SECONDS = 2.0  # between two checks of a run's server
HUNG_SECONDS = 60.0  # without an answer although it listens: then it is restarted
MAX_LOST_SERVERS = 3  # that a run may lose, one after another
LOST_VARIABLE = "R1SEARCHER_LOST_SERVERS"  # in the environment: how many it has lost
# Features that a server without UI and schedules does not need; each costs start or idle time.
LEAN = {
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True)
class ServerAddress:
    """A server: its API's address, its password, and its process if it is the shared one."""

    url: str
    password: str
    pid: int | None = None


class PrefectServer:
    """A server that exists or is starting; ``found()`` waits for it. Keep the object while flows run: its lock tells
    the shared server that it is needed (the kernel releases it with the process)."""

    def __init__(self, home: Path | None = None) -> None:
        """Find a server, or begin to start one; returns at once."""
        self._given = os.environ.get("PREFECT_API_URL") or None
        self.home = home or Path(os.environ["PREFECT_HOME"])
        self._in_use: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if self._given is None:
            access.close_home(self.home)
            self._in_use = open(self.home / "in_use.lock", "w")  # noqa: SIM115  held as long as the object
            fcntl.flock(self._in_use, fcntl.LOCK_SH)  # waits only while a server is ending itself
            if _healthy(self.home) is None:
                set_aside_broken_database(self.home)
                self._process = _spawn(self.home)

    def found(self) -> ServerAddress:
        """Return the server once it answers. Raises ``PipelineError`` if it does not."""
        if self._given is not None:
            return _given_server(self._given)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            found = _healthy(self.home)
            if found is not None:
                return found
            if self._process is not None and self._process.poll() not in (None, 0):
                break
            time.sleep(0.1)
        log = self.home / "server.log"
        last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        raise PipelineError(
            f"the Prefect server did not start: {' '.join(last)}",
            where=str(log),
            fix=f"if the database is the cause, move {self.home / 'prefect.db'} away: {HISTORY}",
        )

    def restart(self, lost: ServerAddress, why: str) -> None:
        """Restart the shared server at its address, so that its clients do not notice."""
        if lost.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(lost.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        show(f"warning: Prefect's server (process {lost.pid}) {why}; restarting it; the run continues")
        set_aside_broken_database(self.home)
        self._process = _spawn(self.home, lost)

    @contextlib.contextmanager
    def watched(self, found: ServerAddress) -> Iterator[None]:
        """Watch the server during the block. The shared one is restarted if needed; one that was given is only reported
        as gone."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(found, over), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, found: ServerAddress, over: threading.Event) -> None:
        answered, said = time.monotonic(), False
        while not over.wait(_LOOK_SECONDS):
            why = why_silent(found.url)
            if why is None:
                answered, said = time.monotonic(), False
                found = self._now(found)
            elif why != GONE and time.monotonic() - answered < HUNG_SECONDS:
                continue
            elif found.pid is None:
                if not said:
                    show(f"warning: Prefect's server at {found.url} {why}; training does not end because of it")
                said = True
            elif (now := self._now(found)) != found:
                found = now
            else:
                self.restart(found, why)
                end = time.monotonic() + START_SECONDS
                while why_silent(found.url) and time.monotonic() < end and not over.wait(_LOOK_SECONDS / 4):
                    pass
                answered = time.monotonic()

    def _now(self, found: ServerAddress) -> ServerAddress:
        """Return the same server, or the one that another flow started in its place."""
        return found if found.pid is None else stored_address(self.home) or found

    def close(self) -> None:
        """Release the server: this process no longer needs it."""
        if self._in_use is not None:
            self._in_use.close()
            self._in_use = None


@contextlib.contextmanager
def prefect_server(meanwhile: Callable[[], None] | None = None) -> Iterator[str]:
    """Provide a server to the flows inside the block; ``meanwhile`` is called while it starts.

    Prefect's log lines go to the server and not to the terminal: an error is raised anyway, and shown once.
    """
    server = PrefectServer()
    try:
        if meanwhile is not None:
            meanwhile()
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

        found = server.found()
        with (
            temporary_settings({PREFECT_API_URL: found.url, PREFECT_API_AUTH_STRING: found.password or None}),
            server.watched(found),
        ):
            yield found.url
    finally:
        server.close()


def despite_a_lost_server(run: Callable[[], object], meanwhile: Callable[[], None] | None = None) -> None:
    """Call ``run`` with a server. If the server is lost for good, restart this process' command with another one,
    because Prefect's pending messages to the first would delay the end by minutes."""
    with prefect_server(meanwhile=meanwhile) as url:
        try:
            run()
            return
        except Exception as error:
            lost = int(os.environ.get(LOST_VARIABLE, "0")) + 1
            if lost > MAX_LOST_SERVERS or (why := _of_the_server(error, url)) is None:
                raise
        show(f"warning: Prefect's server could not be told ({why}); the run continues from the store")
        environment = {**os.environ, LOST_VARIABLE: str(lost)}
        if why_silent(url):
            environment.pop("PREFECT_API_URL", None)  # then a small one is started
        os.execve(sys.executable, sys.orig_argv, environment)  # this ends the workers and releases locks


def _of_the_server(error: BaseException, url: str) -> str | None:
    """Return why a request to the server failed; None if the error is another one."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        if isinstance(at, httpx.TransportError | httpx.HTTPStatusError):
            with contextlib.suppress(RuntimeError):  # httpx has none if it was not sent
                if str(at.request.url).startswith(url.removesuffix("/api")):
                    return str(at).splitlines()[0] if str(at) else type(at).__name__
        at = at.__cause__ or at.__context__
    return None


def _given_server(url: str) -> ServerAddress:
    """Return the server that PREFECT_API_URL names, with Prefect's password from the environment or a profile."""
    from prefect.settings import PREFECT_API_AUTH_STRING

    password = PREFECT_API_AUTH_STRING.value() or ""
    where = f"PREFECT_API_URL={url}"
    if why_silent(url) is not None:
        raise PipelineError(
            "no Prefect server answers",
            where=where,
            fix="start it, or unset the variable: a small server is then started for you",
        )
    if access.wrong_password(url, password):
        raise PipelineError(
            "the Prefect server wants another password" if password else "the Prefect server wants a password",
            where=where,
            fix=f"export {access.CLIENTS} with what `make ui` printed there",
        )
    return ServerAddress(url, password)


def stored_address(home: Path) -> ServerAddress | None:
    """Return the shared server according to its file, whether or not it answers."""
    try:
        stored = parse_json((home / "server.json").read_text())
        return ServerAddress(str(stored["url"]), str(stored["password"]), int(stored["pid"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _healthy(home: Path) -> ServerAddress | None:
    """Return the shared server if it answers."""
    found = stored_address(home)
    return found if found is not None and why_silent(found.url) is None else None


GONE = "is gone"


def why_silent(url: str) -> str | None:
    """Return why a server does not answer, ``GONE`` if nothing listens; None if it answers."""
    try:
        status = httpx.get(f"{url}/health", timeout=5, verify=access.certificates()).status_code
    except httpx.ConnectError as error:  # its cause is httpcore's, which holds the socket's
        refused = isinstance(getattr(error.__cause__, "__context__", None), ConnectionRefusedError)
        return GONE if refused else "does not answer"
    except (httpx.HTTPError, httpx.InvalidURL):
        return "does not answer"
    return None if status == 200 else f"answers with status {status}"


def _spawn(home: Path, like: ServerAddress | None = None) -> subprocess.Popen[bytes]:
    """Start the shared server in a session of its own, so that Ctrl-C on a flow does not end it.

    ``like``: use the address and password of a lost one.
    """
    port = [] if like is None else ["--port", like.url.removesuffix("/api").rpartition(":")[2]]
    password = {} if like is None else {access.SERVER_AUTH_VARIABLE: like.password}
    with open(home / "server.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server", "serve", *port],
            cwd=flows.ROOT,
            env={**os.environ, **LEAN, **password, "PREFECT_HOME": str(home.resolve()), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def stop(home: Path) -> bool:
    """End the shared server; return whether one ran."""
    found = stored_address(home)
    if found is None or found.pid is None:
        return False
    try:
        os.kill(found.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.server", description="The flows' shared Prefect server.")
    parser.add_argument("action", choices=("prepare", "serve", "stop", "page"))
    parser.add_argument("--host", default="127.0.0.1", help="page: address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=0, help="serve, page: port (default: a free one for serve, 4200 for page)"
    )
    parser.add_argument("--name", action="append", default=[], help="page: another host name that clients may use")
    options = parser.parse_args()
    home = Path(os.environ["PREFECT_HOME"])
    if options.action == "prepare":
        prepare(home)
    elif options.action == "serve":
        serve(home, options.port)
    elif options.action == "page":
        page(home, options.host, options.port or 4200, options.name)
    else:
        show("stopped" if stop(home) else "no shared server is running")


if __name__ == "__main__":
    raise SystemExit(command(main)())
