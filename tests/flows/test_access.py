"""Nobody but the user has access: the servers' replies to others, and where the password is. With real servers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flows
from flows import access
from flows.server import PrefectServer, ServerAddress
from flows.server_process import DATABASE, set_aside_broken_database
from r1_searcher.errors import PipelineError

FOREIGN = "https://pages.example"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home as an earlier version left it: open to others, like the database."""
    place = tmp_path_factory.mktemp("prefect") / "home"
    place.mkdir(mode=0o755)
    environment = {**os.environ, "PREFECT_HOME": str(place)}
    command = [sys.executable, "-m", "flows.server", "prepare"]
    subprocess.run(command, cwd=flows.ROOT, env=environment, check=True, capture_output=True)
    place.chmod(0o755)
    (place / DATABASE).chmod(0o644)
    return place


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[PrefectServer]:
    """The shared server, as a flow starts it."""
    given = os.environ.pop("PREFECT_API_URL", None)
    made = PrefectServer(home)
    try:
        yield made
    finally:
        os.kill(int(made.found().pid or 0), signal.SIGKILL)
        made.close()
        if given is not None:
            os.environ["PREFECT_API_URL"] = given


@pytest.fixture(scope="module")
def found(server: PrefectServer) -> ServerAddress:
    return server.found()


def status(url: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, dict[str, str]]:
    """Return the status and headers of a reply."""
    data = None if body is None else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **sent}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, dict(reply.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


PLANTED: dict[str, Any] = {"name": "planted", "flow_id": "00000000-0000-0000-0000-000000000000"}


def test_without_the_password_nothing_is_planted_or_read(found: ServerAddress) -> None:
    for path, body in (("flow_runs/", PLANTED), ("flow_runs/filter", {}), ("deployments/filter", {})):
        url = f"{found.url}/{path}"
        assert status(url, "POST", body)[0] == 401
        assert status(url, "POST", body, **access.header("user:guessed"))[0] == 401
    assert status(f"{found.url}/flow_runs/filter", "POST", {}, **access.header(found.password))[0] == 200


def test_no_page_of_another_origin_may_ask(found: ServerAddress) -> None:
    code, headers = status(
        f"{found.url}/deployments/filter", "OPTIONS", Origin=FOREIGN, Access_Control_Request_Method="POST"
    )
    assert code == 400 and "access-control-allow-origin" not in {name.lower() for name in headers}
    _, headers = status(f"{found.url}/health", Origin=FOREIGN)
    assert "access-control-allow-origin" not in {name.lower() for name in headers}


def test_no_page_elsewhere_may_frame_it(found: ServerAddress) -> None:
    _, headers = status(f"{found.url}/health")
    given = {name.lower(): value for name, value in headers.items()}
    assert (given["x-frame-options"], given["content-security-policy"]) == ("SAMEORIGIN", "frame-ancestors 'self'")


def test_it_answers_to_no_other_hosts_name(found: ServerAddress) -> None:
    assert status(f"{found.url}/health", Host="pages.example:4200")[0] == 400
    assert status(f"{found.url}/health", Host="localhost:4200")[0] == 200


def test_other_users_cannot_read_what_is_in_the_home(home: Path, found: ServerAddress) -> None:
    open_to_others = [path for path in [home, *home.iterdir()] if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert open_to_others == []
    assert found.password in (home / "server.json").read_text()


@contextlib.contextmanager
def tunnel(port: int) -> Iterator[int]:
    """Forward a port of this machine to another in both directions, like ``ssh -L``."""
    listening = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", port))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=copy, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


def test_another_machine_gets_through_a_tunnel_what_it_gets_with_the_password(
    found: ServerAddress, tmp_path: Path
) -> None:
    """docs/workers.md, "More machines", on one machine: the tunnel's end, and the first of the commands there."""
    with tunnel(int(found.url.removesuffix("/api").rpartition(":")[2])) as port:
        api = f"http://127.0.0.1:{port}/api"
        assert status(f"{api}/flow_runs/filter", "POST", {})[0] == 401
        assert status(f"{api}/flow_runs/filter", "POST", {}, **access.header(found.password))[0] == 200
        assert status(f"{api}/health", Host=f"first.example:{port}")[0] == 400
        there = {"PREFECT_API_URL": api, access.CLIENTS: found.password, "PREFECT_HOME": str(tmp_path / "prefect")}
        command = [sys.executable, "-m", "prefect", "work-pool", "create", "second", "--type", "process"]
        made = subprocess.run(command, cwd=tmp_path, env={**os.environ, **there}, capture_output=True, check=False)
        assert made.returncode == 0, made.stderr.decode()[-2000:]
    assert status(f"{found.url}/work_pools/second", **access.header(found.password))[0] == 200


def test_every_start_has_another_password_and_one_that_is_given_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(access.SERVER_AUTH_VARIABLE, raising=False)
    assert len({access.new_password() for _ in range(8)}) == 8 and len(access.new_password()) > 30
    monkeypatch.setenv(access.SERVER_AUTH_VARIABLE, "team:secret")
    assert access.new_password() == "team:secret"


def test_a_given_server_that_wants_a_password_is_one_line(
    found: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", found.url)
    with pytest.raises(PipelineError, match=r"wants (a|another) password \(export PREFECT_API_AUTH_STRING"):
        PrefectServer().found()


def test_the_page_is_not_served_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.server_process import page

    monkeypatch.delenv(access.SERVER_AUTH_VARIABLE, raising=False)
    with pytest.raises(PipelineError, match="the server has no password"):
        page(tmp_path, "127.0.0.1", 0)


def test_a_second_terminal_finds_server_and_password(tmp_path: Path) -> None:
    """Prefect's own command in the checkout's folder, with nothing exported and an empty home folder."""
    access.write_profile(tmp_path, "http://127.0.0.1:9/api", "user:secret")
    assert stat.S_IMODE((tmp_path / access.PROFILES).stat().st_mode) == 0o600
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME")
    code = f"from prefect.settings import {', '.join(names)}; print({', '.join(f'{name}.value()' for name in names)})"
    place = tmp_path / "checkout"
    (place / ".prefect").mkdir(parents=True)
    (place / "pyproject.toml").write_bytes((flows.ROOT / "pyproject.toml").read_bytes())
    os.rename(tmp_path / access.PROFILES, place / ".prefect" / access.PROFILES)
    bare = {"HOME": str(tmp_path / "nobody"), "PATH": os.environ["PATH"]}
    run = subprocess.run([sys.executable, "-c", code], cwd=place, env=bare, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["http://127.0.0.1:9/api", "user:secret", ".prefect"], run.stderr
    assert not (tmp_path / "nobody").exists()
    access.remove_profile(place / ".prefect")
    assert not (place / ".prefect" / access.PROFILES).exists()


def test_a_profile_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / access.PROFILES).write_text('active = "mine"\n')
    access.write_profile(tmp_path, "http://127.0.0.1:9/api", "user:secret")
    access.remove_profile(tmp_path)
    assert (tmp_path / access.PROFILES).read_text() == 'active = "mine"\n'


def test_what_others_may_have_left_is_forgotten(prefect: str, capsys: pytest.CaptureFixture[str]) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.states import Scheduled

    from flows.leftovers import delete_leftovers

    @flow
    def nightly() -> None: ...

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="local", type="process"))
        deployment = client.create_deployment(client.create_flow(nightly), "planted", work_pool_name="local")
        run = client.create_flow_run_from_deployment(
            deployment, state=Scheduled(), job_variables={"command": "touch planted"}
        )
        delete_leftovers(prefect, "")
        assert client.read_deployments() == [] and client.read_work_pools() == []
        assert run.id not in {one.id for one in client.read_flow_runs(limit=200)}
    assert "before its server had a password" in capsys.readouterr().out


def test_a_home_of_an_earlier_version_is_known(home: Path, tmp_path: Path) -> None:
    (home / access.CLOSED_MARK).unlink(missing_ok=True)
    access.close_home(home)
    assert access.was_open(home)
    access.note_closed(home)
    assert not access.was_open(home)
    access.close_home(tmp_path / "fresh")
    assert not access.was_open(tmp_path / "fresh")


def test_a_broken_database_is_set_aside_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / DATABASE
    for number, content in enumerate((b"\0" * 4096, b"no database" * 100), start=1):
        path.write_bytes(content)
        (tmp_path / f"{DATABASE}-wal").write_bytes(b"of it")
        set_aside_broken_database(tmp_path)
        assert not path.exists() and not (tmp_path / f"{DATABASE}-wal").exists()
        assert (tmp_path / f"{DATABASE}.broken-{number}").read_bytes() == content
        [line] = capsys.readouterr().out.splitlines()
        assert "Prefect's database cannot be read" in line and "a new one is made" in line
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")
        database.commit()
    set_aside_broken_database(tmp_path)
    assert path.exists() and capsys.readouterr().out == ""
