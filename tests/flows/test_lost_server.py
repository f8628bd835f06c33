"""Prefect only keeps records: its server dies twice during a run, and the run ends with an undisturbed one's bytes."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from segment_runs import FAKES, ONE, made, train

from flows import access
from flows import server as flows_server
from flows.run_monitor import RunMonitor
from flows.server import GONE, PrefectServer, ServerAddress

LIMIT_SECONDS = 240.0  # for a hang; not a timing


class Tunnel:
    """A port in front of a server, which can be cut."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._to = (str(place.hostname), int(place.port or 0))
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._to)
            except OSError:
                return
            self._open += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self) -> None:
        """Stop listening there."""
        self._listening.shutdown(socket.SHUT_RDWR)
        for one in [self._listening, *self._open]:
            one.close()


def wait_for(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not there():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)


def test_a_run_whose_servers_are_lost_ends_the_same(prefect: str, project: Callable[..., Path], tmp_path: Path) -> None:
    """First the one that PREFECT_API_URL names, permanently; then the small one that the run started instead."""
    whole = project("whole", ONE)
    train("s1")
    place, home, meeting = project("lost", ONE), tmp_path / "home", tmp_path / "meeting"
    meeting.mkdir()
    tunnel = Tunnel(prefect)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{FAKES.parent}{os.pathsep}{FAKES.parents[1]}",
        "PREFECT_API_URL": tunnel.url,
        "PREFECT_HOME": str(home),
        "PREFECT_CLIENT_MAX_RETRIES": "2",  # of the first server, which is gone for good
        "FAKE_MEETING": str(meeting),
    }
    run = subprocess.Popen(
        [sys.executable, str(FAKES), "s1"],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for iteration in range(5):
            here = meeting / str(iteration)
            wait_for(here.exists, run)
            if iteration == 0:
                tunnel.cut()
                here.unlink()
                state = home / "server.json"
                wait_for(state.exists, run)  # the run starts again, with its own server
                wait_for(here.exists, run)
            if iteration == 2:
                lost = json.loads(state.read_text())
                os.kill(lost["pid"], signal.SIGKILL)
            here.unlink()
        said, _ = run.communicate(timeout=LIMIT_SECONDS)
    finally:
        run.kill()
        if (home / "server.json").exists():
            os.kill(json.loads((home / "server.json").read_text())["pid"], signal.SIGKILL)
    assert run.returncode == 0, said
    assert made(place) == made(whole)
    assert "is gone; training does not end because of it" in said
    assert "the run continues from the store" in said
    line = f"warning: Prefect's server (process {lost['pid']}) is gone; restarting it; the run continues"
    assert line in said
    assert "Traceback" not in said and "Error logging" not in said, said
    for one in said.splitlines():  # and nothing is between the lines
        assert one.startswith(("warning: ", "laptop s1 (", "s1 ", "kept by an earlier run ")), said


def test_a_server_is_gone_where_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert flows_server.why_silent(f"http://127.0.0.1:{bound.getsockname()[1]}/api") == GONE
    assert flows_server.why_silent("http://[/api") == "does not answer"


def test_authorities_are_not_read_for_each_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes longer than the question, which is asked every two seconds."""
    access.certificates()
    read: list[object] = []
    monkeypatch.setattr(ssl, "create_default_context", lambda **how: read.append(how))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/api"
        assert flows_server.why_silent(url) == GONE and not access.wrong_password(url, "user:x")
        RunMonitor(url, "user:x").look()
    assert read == []


def test_what_prefects_services_say_of_a_lost_server_is_not_on_the_terminal() -> None:
    """Blocks of thousands of characters, one for every event that it could not send."""
    script = "import flows, logging, prefect.logging.configuration as p; p.setup_logging(); "
    script += "logging.getLogger('prefect._internal.concurrency').error('Service failed to process item')"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=FAKES.parents[1], capture_output=True, text=True, check=True
    )
    assert run.stdout + run.stderr == ""


def test_a_server_that_hangs_is_ended_and_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not a server that is slow for a while: only one that has not replied for a minute."""
    clock, states = [0.0], iter(["does not answer", None, "does not answer", "does not answer"])  # every 40 s
    hung = subprocess.Popen(["sleep", "600"])
    found = ServerAddress("http://127.0.0.1:9/api", "user:secret", hung.pid)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(flows_server, "stored_address", lambda home: found)
    monkeypatch.setattr(flows_server, "why_silent", lambda url: None)
    started: list[ServerAddress | None] = []
    monkeypatch.setattr(flows_server, "_spawn", lambda home, like=None: started.append(like))
    server = PrefectServer(tmp_path)
    assert started == []

    def silent(url: str) -> str | None:
        clock[0] += 40.0
        return next(states, None)

    class Over:
        def wait(self, seconds: float) -> bool:
            return bool(started)

    monkeypatch.setattr(flows_server, "why_silent", silent)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    server._watch(found, Over())  # type: ignore[arg-type]
    assert hung.wait(10) == -signal.SIGKILL
    assert started == [found] and clock[0] == 200.0
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith("does not answer; restarting it; the run continues") and GONE not in line
