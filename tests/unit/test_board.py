"""The block below the lines of `make train` on a terminal: stages, work in progress, figures of training."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.console import Console

from flows.board import Board, drawn, sparkline
from flows.progress_listener import listening
from r1_searcher import progress_events
from r1_searcher.progress import Paced

ROOT = Path(__file__).resolve().parents[2]

FAKE = """\
import os, sys, time
from r1_searcher import progress_events
if sys.argv[1] == "dag":
    print('digraph {\\n"corpus";\\n"train";\\n"corpus" -> "train";\\n}')
    sys.exit()
print("Stage 'corpus' didn't change, skipping")
print("Running stage 'train':")
print("To track the changes with git, run:\\n\\n\\tgit add dvc.lock\\n")
print("tables of", os.environ["R1_SEARCHER_COLUMNS"])
print("a line of the stage \\x1b[2J", flush=True)
print("a line of an error", file=sys.stderr, flush=True)
time.sleep(0.3)  # the lines are read
for done in range(1, 5):
    figures = {"reward": 0.1 * done, "f1": 0.05 * done}
    event = {"kind": "iteration", "segment": "s1", "done": done, "of": 8, "figures": figures, "seconds_left": 65}
    assert progress_events.tell(event) == sys.argv[-1].startswith("repro")
time.sleep(0.5)  # its pictures
sys.exit(3)
"""


def text(board: Board, now: float, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, _environ={}).print(drawn(board, now))
    return out.getvalue()


def test_stages_are_counted_whether_they_ran_or_not() -> None:
    board = Board(4, began=0.0)
    for line in ["Stage 'a' didn't change, skipping", "Stage 'b' is cached - skipping run, checking out outputs"]:
        board.line(line, 1.0)
    board.line("Running stage 'c':", 2.0)
    assert "stage c" in text(board, 65.0) and "2 of 4 stages" in text(board, 65.0) and "1:05" in text(board, 65.0)
    board.line("Running stage 'd@x':", 3.0)
    assert "3 of 4 stages" in text(board, 3.0)
    board.ended(0)
    assert "4 of 4 stages" in text(board, 3.0)


def test_work_is_drawn_until_it_is_over() -> None:
    board = Board(1, began=0.0)
    work = {
        "kind": "work",
        "what": "index",
        "unit": "passages",
        "done": 250,
        "total": 1000,
        "note": "",
        "seconds": 30.0,
    }
    board.event(work)
    assert (
        "index" in text(board, 1.0) and "250 of 1,000 passages" in text(board, 1.0) and "1:30 left" in text(board, 1.0)
    )
    board.event(work | {"total": 0})
    assert "250 passages" in text(board, 1.0)
    board.event(work | {"note": "loss 0.5, 9 s left"})
    assert "loss 0.5, 9 s left" in text(board, 1.0) and "1:30" not in text(board, 1.0)
    board.event({"kind": "work", "what": "index", "over": True})
    assert "index" not in text(board, 1.0)


def test_a_segments_figures_have_their_history_and_end_with_their_stage() -> None:
    board = Board(2, began=0.0)
    board.line("Running stage 'train@s1':", 0.0)
    for done, reward in enumerate([0.0, 0.5, 1.0], start=1):
        figures = {"reward": reward, "search_rate": 0.25}
        board.event({"kind": "iteration", "segment": "s1", "done": done, "of": 24, "figures": figures})
    shown = text(board, 1.0)
    assert "segment s1" in shown and "iteration 3 of 24" in shown and "from the store" in shown
    assert re.search(r"reward +\+1\.000 +▁▅█", shown) and re.search(r"searched +0\.250 +▁▁▁", shown)
    board.line("Running stage 'curves':", 2.0)
    assert "segment" not in text(board, 2.0)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_cut_on_a_narrow_terminal(width: int) -> None:
    board = Board(13, began=0.0)
    board.line("Running stage 'train@s1-00':", 0.0)
    note = "loss 1.53, 6,580 tokens/s"
    work = {"kind": "work", "what": "base model", "unit": "tokens", "done": 150_000, "total": 350_000, "note": note}
    board.event(work | {"seconds": 9.0})
    for done in range(50):
        event = {"kind": "iteration", "segment": "s1-00", "done": done + 1, "of": 64, "figures": {"reward": done / 9}}
        board.event(event | {"seconds_left": 65, "tokens_per_second": 1234.0})
    shown = text(board, 65.0, width)
    words = ("iteration 50 of 64", "1:05 left", "1,234 tokens/s", "0 of 13 stages", "loss 1.53")
    for said in (*words, "150,000 of 350,000 tokens"):
        assert said in shown
    lines = shown.splitlines()
    assert "…" not in shown and len(lines) <= 8
    reward = next(line for line in lines if "reward" in line)
    assert reward.rstrip().endswith("█") and len(reward.rstrip()) <= width
    assert "━" in lines[1]


def test_a_sparkline_shows_the_last_forty_values() -> None:
    assert str(sparkline([float(value) for value in range(100)])) == str(sparkline([float(v) for v in range(60, 100)]))


def test_what_has_no_listener_gets_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(progress_events.VARIABLE, str(tmp_path / "nobody"))
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    clock = iter([0.0, 20.0, 40.0])
    Paced("index", unit="passages", clock=lambda: next(clock)).told(1, 2)
    assert out.getvalue() == "index: 1 of 2 passages, 20 s so far\n"


def test_what_has_a_listener_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    heard: list[dict[str, object]] = []
    monkeypatch.setattr(sys, "stderr", out)
    with listening(lambda event: heard.append(dict(event))) as address:
        monkeypatch.setenv(progress_events.VARIABLE, address)
        with Paced("index", unit="passages", every=0.0) as paced:
            paced.told(1, 2)
        assert progress_events.tell({"kind": "iteration"}) and progress_events.tell({"kind": "x"})
    assert out.getvalue() == ""
    assert float(str(heard[0].pop("seconds"))) < 60.0
    assert heard[0] == {"kind": "work", "what": "index", "unit": "passages", "done": 1, "total": 2, "note": ""}
    assert {"kind": "work", "what": "index", "over": True} in heard and heard[-1] == {"kind": "x"}
    assert not progress_events.tell({"kind": "x"}), "nobody listens any more"


def run(folder: Path, columns: int) -> tuple[str, int]:
    """Run flows.repro with the fake DVC on a terminal; return what it shows and its status."""
    (folder / "dvc").mkdir()
    (folder / "dvc/__init__.py").touch()
    (folder / "dvc/__main__.py").write_text(FAKE)
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "TERM": "xterm", "COLUMNS": ""}
    with subprocess.Popen(
        [sys.executable, "-m", "flows.repro"], cwd=folder, env=environment, stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # the terminal's other side is closed
                break
            if not piece:
                break
            shown += piece
        os.close(ours)
    return shown.decode(), process.returncode


def test_on_a_terminal_lines_scroll_above_the_block(tmp_path: Path) -> None:
    shown, status = run(tmp_path, 100)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert status == 3
    assert "Running stage 'train':" in plain and "a line of an error" in plain and "git add" not in plain
    assert "a line of the stage \\x1b[2J" in plain, "a stage's own control characters do not act"
    assert "tables of 100" in plain
    assert "1 of 2 stages" in plain and "segment s1" in plain and "iteration 4 of 8" in plain and "▁▃▆█" in plain
    assert "2 of 2 stages" not in plain and "\x1b[?25h" in shown, "it failed, and the cursor is back"


def test_a_narrow_terminal_gets_lines(tmp_path: Path) -> None:
    shown, _ = run(tmp_path, 40)
    assert "tables of 40" in shown
    assert "Running stage 'train':" in shown and "stages" not in shown and "\x1b" not in shown
