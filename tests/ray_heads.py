"""Heads of Ray clusters on this machine, as `ray start --head` makes them, each with its own home folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from flows.ray_cluster import AUTHENTICATION
from flows.workers_local import free_port

START_SECONDS = 90.0
AUTHENTICATED_BY = (AUTHENTICATION, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")


def home_with_token(home: Path) -> Path:
    """Return a home folder in which Ray has saved its own token."""
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").write_text(secrets.token_hex(32))
    return home


def environment(home: Path, **changes: str) -> dict[str, str]:
    """Return our environment with another home and without Ray's settings."""
    ours = {name: value for name, value in os.environ.items() if name not in AUTHENTICATED_BY}
    return {**ours, "HOME": str(home), **changes}


@contextlib.contextmanager
def head(home: Path, *, cpus: int = 2, **changes: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a head; yields its address, and the process that started all its others, which are killed at the end.
    ``changes``: to their environment."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a short path: it contains Ray's sockets
        log = Path(folder) / "head.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
                 f"--num-cpus={cpus}", "--include-dashboard=false", f"--temp-dir={folder}/ray"],
                env=environment(home, RAY_USAGE_STATS_ENABLED="0", **changes),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )  # fmt: skip
        try:
            end = time.monotonic() + START_SECONDS
            while b"Ray runtime started" not in log.read_bytes():
                assert process.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.2)
            yield f"127.0.0.1:{port}", process
        finally:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End it and all that it started, at once: some of them lead their own sessions."""
    with contextlib.suppress(psutil.NoSuchProcess):
        leader = psutil.Process(process.pid)
        leader.suspend()  # so that it starts nothing, and ends nothing before it is counted
        for one in [*leader.children(recursive=True), leader]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
