"""`r1-searcher browse` as a process, without options in a run's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import browsing_runs as runs

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_serves_this_folder_until_it_is_told_to_end(tmp_path: Path) -> None:
    root = runs.make(tmp_path / "mine")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "r1_searcher", "browse", "--port", "0"]
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(address) as reply:
            assert b"<main" in reply.read()
        assert list(tmp_path.glob("r1-searcher-browse-*"))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not list(tmp_path.glob("r1-searcher-browse-*"))  # the index is gone
