"""`make ui`'s requests to its server, with a real one; and its behaviour if that is killed or hangs."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows import ui
from flows.server import why_silent
from flows.workers_local import free_port
from r1_searcher.errors import PipelineError

# Replaces `python -m flows.server page --host HOST --port PORT`, with the same name and health endpoint.
SERVER = """
import http.server, sys

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

http.server.ThreadingHTTPServer((sys.argv[3], int(sys.argv[5])), Health).serve_forever()
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ui.PageServer]:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "server.py").write_text(SERVER)
    monkeypatch.setattr("flows.ROOT", tmp_path)  # where modules are found
    with contextlib.closing(ui.PageServer(free_port(), dict(os.environ), tmp_path / "ui.log")) as found:
        found.wait()
        yield found


def process_of(server: ui.PageServer) -> int:
    return server._process.pid


def test_a_page_server_that_is_killed_is_started_anew_at_its_address(
    server: ui.PageServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.look()
    before, api = process_of(server), server.api
    os.kill(before, signal.SIGKILL)
    server._process.wait()
    server.look()
    assert server.api == api and process_of(server) != before and why_silent(api) is None
    said = "warning: Prefect's server ended with status -9; restarting it; runs continue\n"
    assert capsys.readouterr().out == said
    server.look()
    assert capsys.readouterr().out == ""


def test_a_page_server_that_hangs_is_ended_and_started_anew(
    server: ui.PageServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = server._process
    os.kill(before.pid, signal.SIGSTOP)
    with monkeypatch.context() as quick:
        quick.setattr(ui, "why_silent", lambda api: "does not answer")
        server.look()  # it may be busy
    assert server._process is before and before.poll() is None
    monkeypatch.setattr(ui, "HUNG_SECONDS", 0.0)
    server.look()
    assert before.returncode == -signal.SIGKILL and why_silent(server.api) is None
    assert re.search("did not answer for .* s; restarting it", capsys.readouterr().out)


def test_a_page_server_that_ends_again_and_again_ends_make_ui(server: ui.PageServer) -> None:
    began = time.monotonic()
    with pytest.raises(PipelineError, match=r"the Prefect server ended with status -9 \(see .*ui\.log\)"):
        while time.monotonic() - began < 60:
            os.kill(process_of(server), signal.SIGKILL)
            server._process.wait()
            server.look()
    assert len(server._starts) == ui.STARTS


def test_missed_nights_are_skipped_and_what_a_person_asked_for_is_not(prefect: str) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
    from prefect.states import Scheduled

    from flows.leftovers import skip_missed

    @flow
    def nightly() -> None: ...

    now = datetime.datetime.now(datetime.UTC)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(nightly), "nightly")

        def scheduled(days: int) -> str:
            state: State[Any] = Scheduled(scheduled_time=now + datetime.timedelta(days=days))
            return str(client.create_flow_run_from_deployment(deployment, state=state).id)

        missed, asked, to_come = [scheduled(-2), scheduled(-1)], scheduled(-1), scheduled(1)
        # Only the server's scheduler may claim a run as its own.
        with sqlite3.connect(str(PREFECT_API_DATABASE_CONNECTION_URL.value()).split("///")[1], timeout=60) as database:
            for run in (*missed, to_come):
                changed = database.execute("UPDATE flow_run SET auto_scheduled = 1 WHERE id = ?", (run,))
                assert changed.rowcount == 1

        assert skip_missed(prefect) == 2
        left = client.read_flow_runs(deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [deployment]}}))
        assert {str(run.id) for run in left} == {asked, to_come}
        assert skip_missed(prefect) == 0


def test_queued_runs_say_what_they_are_and_ended_ones_why(prefect: str, capsys: pytest.CaptureFixture[str]) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled, Completed, Failed

    from flows.run_monitor import RunMonitor

    @flow(name="pipeline")
    def pipeline(profile: str) -> None: ...

    board = RunMonitor(prefect)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(pipeline), "pipeline-board")

        def queued(**parameters: Any) -> Any:
            return client.create_flow_run_from_deployment(deployment, parameters=parameters).id

        runs = [queued(profile="smoke"), queued(profile="laptop", seed=3, segments=["s1-00"]), queued(profile="smok")]
        other = queued()
        random = client.read_flow_run(other).name
        board.look()
        names = ["smoke pipeline", "laptop-seed3 pipeline to s1-00", "smok pipeline"]
        assert [client.read_flow_run(run).name for run in runs] == names
        assert client.read_flow_run(other).name == random
        assert capsys.readouterr().out == ""

        said = "Flow run encountered an exception: PipelineError: train@s1-00: the stage failed: error: no such file"
        states: list[State[Any]] = [Failed(message=said), Completed(), Cancelled(message="by hand")]
        for run, state in zip(runs, states, strict=True):
            client.set_flow_run_state(run, state, force=True)
        board.look()
        assert sorted(capsys.readouterr().out.splitlines()) == [
            "laptop-seed3 pipeline to s1-00 is done",
            "smok pipeline was cancelled",
            "smoke pipeline failed: train@s1-00: the stage failed: error: no such file",
        ]
        board.look()
        assert capsys.readouterr().out == ""
        client.delete_deployment(deployment)
    RunMonitor("http://127.0.0.1:9/api").look()  # nobody there: no error
