"""Run Prefect on this machine: a server with its UI, the deployments of prefect.yaml, and a worker.

    python -m flows.ui          http://127.0.0.1:4200 until Ctrl-C, which stops everything

The database is the project's own, so the UI shows all past and future runs. A run in progress at Ctrl-C stops; run its
deployment again, and it resumes from the store.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import httpx

import flows
from flows import access
from flows.leftovers import delete_leftovers, skip_missed
from flows.processes import end_group
from flows.run_monitor import RunMonitor
from flows.server import HUNG_SECONDS, START_SECONDS, why_silent
from flows.server_process import set_aside_broken_database
from r1_searcher.errors import PipelineError, command
from r1_searcher.shown import show, show_lines

HOST = "127.0.0.1"
PORT = 4200
PORT_VARIABLE = "PREFECT_SERVER_API_PORT"
POOL = "local"
_LOOK_SECONDS = 2.0  # between two checks of the server
STARTS, STARTS_SECONDS = 4, 600.0  # at most so many starts of the server in so many seconds


@contextlib.contextmanager
def run_module(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module in a session of its own during the block, so that Ctrl-C reaches it and its children only
    through us."""
    process = start(arguments, environment, log)
    try:
        yield process
    finally:
        end_group(process)


def start(arguments: Sequence[str], environment: Mapping[str, str], log: Path | None) -> subprocess.Popen[bytes]:
    """Start a Python module; the caller ends it."""
    with open(log, "ab") if log else contextlib.nullcontext() as out:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=flows.ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


class PageServer:
    """The server with the page. It is book-keeping: if it dies or hangs, it is restarted at the same address."""

    def __init__(self, port: int, environment: Mapping[str, str], log: Path) -> None:
        """Start it without waiting."""
        self.port, self.log = port, log
        self.api = f"http://{HOST}:{port}/api"
        self._environment = environment
        self._answered = time.monotonic()
        self._starts: list[float] = []
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._starts.append(time.monotonic())
        arguments = ("flows.server", "page", "--host", HOST, "--port", str(self.port))
        return start(arguments, self._environment, self.log)

    def wait(self) -> None:
        """Wait until it answers. Raises ``PipelineError`` if it does not."""
        wait_until_there(f"{self.api}/health", {"server": self._process}, self.log)
        self._answered = time.monotonic()

    def look(self) -> None:
        """Restart it if it is gone or does not answer. Raises ``PipelineError`` if that happens repeatedly."""
        status = self._process.poll()
        if status is None and why_silent(self.api) is None:
            self._answered = time.monotonic()
        if status is None and time.monotonic() - self._answered < HUNG_SECONDS:
            return
        if len([one for one in self._starts if time.monotonic() - one < STARTS_SECONDS]) >= STARTS:
            check_alive({"server": self._process}, self.log)
            raise PipelineError("the Prefect server does not answer", where=self.api, fix=f"see {self.log}")
        why = f"ended with status {status}" if status is not None else f"did not answer for {HUNG_SECONDS:.0f} s"
        show(f"warning: Prefect's server {why}; restarting it; runs continue")
        end_group(self._process, grace=0.0)
        self._process = self._start()
        self.wait()

    def close(self) -> None:
        """End it."""
        end_group(self._process)


def check_free(port: int) -> None:
    """Raise ``PipelineError`` if something already listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PipelineError(
                f"the port cannot be used: {error.strerror}",
                where=f"{HOST}:{port}",
                fix=f"stop what uses it, or choose another: make ui {PORT_VARIABLE}={port + 1}",
            ) from None


def wait_until_there(
    url: str, processes: Mapping[str, subprocess.Popen[bytes]], log: Path, headers: Mapping[str, str] | None = None
) -> None:
    """Wait until a GET of ``url`` succeeds. Raises ``PipelineError`` if a process ends first, or time runs out."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, headers=headers, timeout=5, verify=access.certificates()).is_success:
                return
        check_alive(processes, log)
        time.sleep(0.2)
    raise PipelineError("did not start in time", where=url, fix=f"see {log}")


def check_alive(processes: Mapping[str, subprocess.Popen[bytes]], log: Path) -> None:
    """Raise ``PipelineError`` if one of the processes has ended."""
    for name, process in processes.items():
        if process.poll() is not None:
            raise PipelineError(f"the Prefect {name} ended with status {process.returncode}", fix=f"see {log}")


def deploy(environment: Mapping[str, str]) -> None:
    """Register the deployments of prefect.yaml."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=flows.ROOT,
        env={**environment, "PWD": str(flows.ROOT)},  # prefect.yaml takes the runs' folder from it
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (f"{done.stdout}\n{done.stderr}".strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"prefect deploy failed: {last.strip()}", where="prefect.yaml")


def run(port: int) -> None:
    """Run server, deployments and worker until Ctrl-C, or until the worker ends."""
    check_free(port)
    home = Path(os.environ["PREFECT_HOME"])
    access.close_home(home)
    set_aside_broken_database(home)
    log = home / "ui.log"
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)
    address, password = f"http://{HOST}:{port}", access.new_password()
    api = f"{address}/api"
    environment = {**os.environ, "PREFECT_API_URL": api, access.CLIENTS: password}
    serving = {**environment, access.SERVER_AUTH_VARIABLE: password}
    work = ("prefect", "worker", "start", "--pool", POOL, "--type", "process", "--limit", "1")
    with contextlib.closing(PageServer(port, serving, log)) as server:
        server.wait()
        if access.was_open(home):
            delete_leftovers(api, password)
            access.note_closed(home)
        skip_missed(api, password)
        with run_module(work, environment, None) as worker:
            # The worker creates it.
            wait_until_there(f"{api}/work_pools/{POOL}", {"worker": worker}, log, access.header(password))
            deploy(environment)
            access.write_profile(home, api, password)
            board = RunMonitor(api, password)
            try:
                show_lines(
                    f"Prefect:  {address}   (its log: {log})\n"
                    f"password: {password}   (the UI asks for it; new at each start)\n"
                    f"worker:   of the work pool {POOL!r}, one run at a time; deployments as in prefect.yaml\n"
                    "try:      prefect deployment run pipeline/pipeline-smoke --watch   (in this folder)\n"
                    "Ctrl-C stops everything"
                )
                while True:
                    check_alive({"worker": worker}, log)
                    server.look()
                    board.look()
                    time.sleep(_LOOK_SECONDS)
            finally:
                access.remove_profile(home)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Ctrl-C ends it without an error; SIGTERM does the same."""
    parser = argparse.ArgumentParser(prog="python -m flows.ui", description=(__doc__ or "").splitlines()[0])
    given = os.environ.get(PORT_VARIABLE) or str(PORT)
    parser.add_argument(
        "--port", type=int, default=given, help=f"port of the server (default: ${PORT_VARIABLE}, or {PORT})"
    )
    port = parser.parse_args(arguments).port
    # A script's background processes ignore SIGINT, and so do their children; with handlers they do not.
    for way in (signal.SIGINT, signal.SIGTERM):
        signal.signal(way, _interrupt)
    try:
        run(port)
    except KeyboardInterrupt:
        show("stopped the server, the worker and its runs")


if __name__ == "__main__":
    raise SystemExit(main())
