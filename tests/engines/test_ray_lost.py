"""A cluster whose head is killed while a worker works: one line within seconds, before Ray ends the whole process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from living import all_end
from tiny_project import make_project

pytest.importorskip("ray", reason="Ray is not installed: make setup-ray")

from ray_heads import environment, head, kill

TESTS = Path(__file__).resolve().parents[1]
WORK = """
import sys
from pathlib import Path
from flows.workers_ray import RayPlace
from r1_searcher.errors import command
from r1_searcher.training.workbench import Workbench

@command
def main():
    place = RayPlace(Workbench("s1").worker_settings, Path("logs"))
    try:
        worker = place.start("engine", 0, "slow_worker:SlowWorker", {})
        while True:
            worker.call("work", float(sys.argv[1]))
    finally:
        place.close()

raise SystemExit(main())
"""
START_SECONDS = 90.0
SECONDS = 30.0  # some for the line, 5 for Ray to shut down, and a busy machine; Ray itself would take 60
# On the cluster's side; the run keeps Ray's own, 60.
CLOCK: dict[str, Any] = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
WORKER_SECONDS = 60.0  # for a worker that misses the head's end to end itself: 10 by its clock


@pytest.mark.parametrize(
    ("whole", "seconds"),
    [(True, 300.0), (False, 300.0), (False, 1.0)],
    ids=["all of its processes", "the server alone", "between short calls"],
)
def test_a_head_that_is_killed_is_one_line_within_seconds(tmp_path: Path, whole: bool, seconds: float) -> None:
    """The server alone: workers go on, as on other machines, and their answers still arrive."""
    (tmp_path / "home").mkdir()
    with head(tmp_path / "home", **CLOCK) as (address, leader):
        place = make_project(tmp_path / "place", {"place": "ray", "ray_address": address})
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        run = subprocess.Popen(
            [sys.executable, "-c", WORK, str(seconds)],
            cwd=place,
            env=environment(tmp_path / "home", PYTHONPATH=path),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            end = time.monotonic() + START_SECONDS
            while not (place / "working").exists():
                assert run.poll() is None and time.monotonic() < end
                time.sleep(0.1)
            worker = int((place / "working").read_text())
            if whole:
                kill(leader)
            else:
                leader.send_signal(signal.SIGSTOP)  # or it ends the others
                [server] = [one for one in psutil.Process(leader.pid).children() if one.name() == "gcs_server"]
                server.kill()
            _, said = run.communicate(timeout=SECONDS)
        finally:
            run.kill()
        [line] = [line for line in said.splitlines() if line.startswith("error:")]
        assert line.startswith(f"error: workers: the Ray cluster at {address} no longer answers: ")
        assert "ray start --head" in line and "the same command resumes" in line
        assert run.returncode == 2
        if seconds > SECONDS:  # otherwise it waits for work, and its end is the same
            assert all_end([worker], WORKER_SECONDS)
