"""The smoke pipeline as a scheduled run: a checkout, `make ui`'s server and worker, and Prefect's own commands.

The deployment's first run loses its server on the way, and is stopped by Ctrl-C of `make ui`; the second completes.
Then comes a run that fails. Their user has no home folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flows import access
from r1_searcher.params import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 1800  # for a hang; not a timing
PIPELINE, REGRESSION = "pipeline/pipeline-smoke", "regression/regression-smoke"
READY = "Ctrl-C stops everything"
MISTYPED = "smok"  # a profile that does not exist
PASSWORDS: dict[str, str] = {}  # of each port's server, as it was printed


@dataclass
class Scheduled:
    """The results of the runs."""

    workspace: Path
    stopped: list[dict[str, Any]] = field(default_factory=list)  # flow runs after Ctrl-C, per the server
    said: str = ""  # seconds `make ui` took to end after Ctrl-C
    survivors: list[str] = field(default_factory=list)  # processes that survived Ctrl-C
    stored: dict[str, int] = field(default_factory=dict)  # the store's content then: place, modification time
    ended: list[int] = field(default_factory=list)  # exit statuses of `make ui`'s command
    page: str = ""
    watched: str = ""  # the output of `prefect deployment run --watch`
    flow_runs: list[dict[str, Any]] = field(default_factory=list)
    task_runs: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    logs: list[dict[str, Any]] = field(default_factory=list)
    failed: tuple[int, dict[str, Any]] = (0, {})  # the command's exit status, and the flow run, of a mistyped profile
    beside: list[str] = field(default_factory=list)  # what is in the checkout's folder after all


def run(place: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the environment in a checkout or workspace and capture its output."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=place,
        env=environment(place) | variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


NOT_OURS = ("PREFECT_API_URL", "PREFECT_RESULTS_LOCAL_STORAGE_PATH", "PREFECT_SERVER_MEMO_STORE_PATH")


def environment(place: Path) -> dict[str, str]:
    """Return an environment isolated from the surrounding checkout: its own store, Prefect home and DVC site cache."""
    root = place.parents[1] if place.parent.name == ".workspaces" else place
    kept = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "R1SEARCHER_STORE": str(root / ".store"),
        "PREFECT_HOME": str(root / ".prefect"),
        "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "tmp" / "site"),
        "HOME": str(root.parent / "nobody"),
        "PYTHONPATH": "",
    }


def schedule(root: Path) -> Scheduled:
    """Make a checkout of the working tree at ``root``; deploy, run, stop and rerun there."""
    copy_checkout(root)
    done = Scheduled(workspace=root / ".workspaces" / "smoke")
    log = root.parent / "ui.log"

    with serving(root, log, done) as api:
        started = run(root, "prefect", "deployment", "run", PIPELINE)
        assert started.returncode == 0, started.stdout + started.stderr
        wait_for(lambda: "s1-00  1/16  reward" in log.read_text(encoding="utf-8"), log)
        kill_server(root)
        wait_for(lambda: "s1-00  3/16  reward" in log.read_text(encoding="utf-8"), log)
        done.said = log.read_text(encoding="utf-8")
    done.stored = modified(root / ".store" / "rollouts")

    with serving(root, log, done) as api:
        done.stopped = ask(api, "flow_runs")
        done.watched = watch(root, PIPELINE, log)
        done.watched += watch(root, REGRESSION, log, "--param", "seeds=1")
        with urllib.request.urlopen(api.removesuffix("/api"), timeout=30) as reply:
            done.page = reply.read().decode()
        done.flow_runs, done.task_runs = ask(api, "flow_runs"), ask(api, "task_runs")
        done.artifacts, done.logs = ask(api, "artifacts"), ask(api, "logs")
        done.failed = fail(root, api)
    done.beside = sorted(path.name for path in root.parent.iterdir())
    return done


def kill_server(root: Path) -> None:
    """Kill the server of a checkout's `make ui` with SIGKILL."""
    here, named = str(root.resolve()), ["flows.server", "page"]
    found = [one for one in psutil.process_iter(["cmdline", "cwd"]) if one.info["cwd"] == here]
    [server] = [one for one in found if (one.info["cmdline"] or [])[2:4] == named]
    server.kill()


def fail(root: Path, api: str) -> tuple[int, dict[str, Any]]:
    """Run the pipeline's deployment for a profile that does not exist; returns the command's status, and the run."""
    parameters = ("--param", f"profile={MISTYPED}")
    status = run(root, "prefect", "deployment", "run", PIPELINE, *parameters, "--watch").returncode
    [failed] = [found for found in ask(api, "flow_runs") if found["parameters"].get("profile") == MISTYPED]
    return status, failed


def watch(root: Path, deployment: str, log: Path, *options: str) -> str:
    """Run a deployment to its end and return the command's output; fails if the run does. The command finds the server
    by itself."""
    watched = run(root, "prefect", "deployment", "run", deployment, *options, "--watch")
    said = watched.stdout + watched.stderr
    assert watched.returncode == 0, said[-4000:] + log.read_text(encoding="utf-8")[-4000:]
    return said


def copy_checkout(root: Path) -> None:
    """Commit the working tree's files, including uncommitted ones, as a separate repository, with the shipped
    parameters instead of the user's."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SHIPPED if name == "params.yaml" else ROOT / name, root / name)
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "All"]):
        subprocess.run(["git", *command], cwd=root, check=True)


@contextlib.contextmanager
def serving(root: Path, log: Path, done: Scheduled) -> Iterator[str]:
    """Run `make ui` during the block; yields the API's address. Then Ctrl-C, and a check for leftovers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with open(log, "w", encoding="utf-8") as out:
        ui = subprocess.Popen(
            [sys.executable, "-m", "flows.ui"],
            cwd=root,
            env=environment(root) | {"PREFECT_SERVER_API_PORT": port, "PREFECT_WORKER_QUERY_SECONDS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: READY in log.read_text(encoding="utf-8"), log, ui)
        PASSWORDS[port] = re.findall(r"^password: (\S+)", log.read_text(encoding="utf-8"), re.MULTILINE)[-1]
        yield f"http://127.0.0.1:{port}/api"
    finally:
        family = psutil.Process(ui.pid).children(recursive=True) if ui.poll() is None else []
        ui.send_signal(signal.SIGINT)
        try:
            done.ended.append(ui.wait(120))
        finally:
            ui.kill()
            ui.wait()
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        done.survivors.append(" ".join(process.cmdline()))
                        process.kill()


def wait_for(there: Callable[[], bool], log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until ``there`` is true; fails with the end of the log."""
    end = time.monotonic() + LIMIT_SECONDS
    while not there():
        said = log.read_text(encoding="utf-8")[-4000:]
        assert time.monotonic() < end, said
        assert process is None or process.poll() is None, said
        time.sleep(0.5)


def ask(api: str, kind: str) -> list[dict[str, Any]]:
    """Return all flow runs, task runs, artifacts or logs that the server knows."""
    found: list[dict[str, Any]] = []
    while True:
        body = json.dumps({"limit": 200, "offset": len(found)}).encode()
        password = PASSWORDS[api.removesuffix("/api").rpartition(":")[2]]
        headers = {"Content-Type": "application/json", **access.header(password)}
        request = urllib.request.Request(f"{api}/{kind}/filter", body, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            page = json.load(reply)
        found += page
        if len(page) < 200:
            return found


def modified(folder: Path) -> dict[str, int]:
    """Return the files below a folder with their modification times."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }
