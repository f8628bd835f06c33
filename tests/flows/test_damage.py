"""A segment whose store was damaged, or that was killed at random moments, ends in the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_rooms
import pytest

from r1_searcher.files import sums
from r1_searcher.files.artefacts import sha256_tree
from r1_searcher.files.store import Store
from r1_searcher.training.workbench import Workbench

ONE: dict[str, Any] = {"s1": {"stage": "stage1", "prev": "data/base_model", "iterations": 4, "iteration_offset": 0}}
FAKES = Path(fake_rooms.__file__)
KILLS = 3


def made(place: Path) -> dict[str, str]:
    parts = ("data/train/s1", "plots/train/s1.csv", "metrics/train/s1.json")
    return {part: sha256_tree(place / part) for part in parts}


def train() -> None:
    from flows.train import train as flow

    flow("s1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A copy of an undisturbed run's project, made by the first test that needs it."""
    return []


def damage(file: Path) -> None:
    """Flip one bit of the part that is read; the file's times stay."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.unlink()  # outputs may be links to it
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    sums.forget_hashes()


FILES = (
    ("rollouts", "0", "rollouts.parquet"),
    ("rollouts", "3", "rollouts.parquet"),
    ("rewards", "1", "rewards.parquet"),
    ("updates", "2", "advantages.parquet"),
    ("updates", "3", "metrics.json"),
    ("checkpoints", "1", "trainer_state/momentum.json"),
    ("checkpoints", "3", "policy/model.safetensors"),
    ("checkpoints", "3", "files.sha256"),
)


@pytest.fixture
def whole(
    prefect: str, project: Callable[..., Path], finished: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The project of an undisturbed run."""
    if not finished:
        place = project("undisturbed", ONE)
        train()
        finished.append(Path(shutil.copytree(place, tmp_path_factory.mktemp("keep") / "project")))
    return finished[0]


@pytest.mark.parametrize("file", FILES, ids="-".join)
def test_what_is_damaged_is_made_again(
    whole: Path, project: Callable[..., Path], file: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    kind, iteration, name = file
    place = project("damaged", ONE)
    shutil.copytree(whole / ".store", place / ".store")
    keys = Workbench("s1").keys[int(iteration)]
    key = {"rollouts": keys.rollouts, "rewards": keys.rewards}.get(kind, keys.policy)
    damage(Store(place / ".store").place(kind, key) / name)
    train()
    used = (
        kind != "checkpoints" or iteration == "3"
    )  # an earlier checkpoint is not read: the later one made from it exists
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [("made again" in line, f"{kind}/{key[:2]}" in line) for line in warned] == [(True, True)] * used
    assert made(place) == made(whole)


def test_what_came_of_rollouts_that_are_not_sampled_alike_again_goes_with_them(
    whole: Path, project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a GPU: rewards and updates belong to the damaged rollouts, and not to the recomputed ones."""
    place = project("unlike", ONE)
    shutil.copytree(whole / ".store", place / ".store")
    entry = Store(place / ".store").place("rollouts", Workbench("s1").keys[1].rollouts)
    damage(entry / "rollouts.parquet")
    sums.renew(entry)  # as it was written
    content = (entry / "rollouts.parquet").read_bytes()
    (entry / "rollouts.parquet").write_bytes(content[:-9])
    fake_rooms.calls.clear()
    train()
    assert "iteration 2 was sampled again, with other rollouts" in capsys.readouterr().out
    assert fake_rooms.calls.count("rollout") == 3  # iterations 2 to 4
    assert made(place) == made(whole)


def test_what_a_killed_run_left_is_said(
    whole: Path, project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = project("left", ONE)
    keys = Workbench("s1").keys
    store, full = Store(place / ".store"), Store(whole / ".store")
    for kind, key in (("rollouts", keys[0].rollouts), ("rewards", keys[0].rewards), ("rollouts", keys[1].rollouts)):
        if full.get(kind, key):
            shutil.copytree(full.place(kind, key), store.place(kind, key))
    (place / ".store/.drafts/rollouts-killed").mkdir(parents=True)
    train()
    said = capsys.readouterr().out
    assert "s1: removed 1 unfinished drafts of killed runs" in said
    assert "kept by an earlier run and used again: 2 rollouts, 1 rewards, 0 updates" in said
    assert made(place) == made(whole)


def test_sigterm_under_a_run_is_one_line(
    whole: Path, prefect: str, project: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prefect takes the signal first, and tells its server; the visible result equals other commands'."""
    place, meeting = project("ended", ONE), tmp_path / "meeting"
    meeting.mkdir()
    with subprocess.Popen(
        [sys.executable, str(FAKES), "s1"],
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": f"{FAKES.parent}{os.pathsep}{FAKES.parents[1]}",
            "PREFECT_API_URL": prefect,
            "FAKE_MEETING": str(meeting),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (meeting / "0").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        said, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert errors == "stopped by SIGTERM; run the same command again to resume\n"
    assert len(said.splitlines()) == 2, said  # it starts; the first validation
    train()
    assert "kept by an earlier run and used again: 1 rollouts, 1 rewards, 1 updates" in capsys.readouterr().out
    assert made(place) == made(whole)


def test_killed_at_random_moments(whole: Path, prefect: str, project: Callable[..., Path]) -> None:
    """The short form of benchmarks/kills.py, by the clock: whenever a kill comes, the end is the same."""
    place = project("killed", ONE)
    draw, paths = random.Random(0), f"{FAKES.parent}{os.pathsep}{FAKES.parents[1]}"
    for number in range(KILLS + 1):
        process = subprocess.Popen(
            [sys.executable, str(FAKES), "s1"],
            cwd=place,
            env={
                **os.environ,
                "PYTHONPATH": paths,
                "PREFECT_API_URL": prefect,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        way = signal.SIGTERM if number == 0 else signal.SIGKILL
        try:
            _, errors = process.communicate(timeout=60 if number == KILLS else draw.uniform(2, 6))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, way)
            _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL, -signal.SIGTERM), errors
    assert process.returncode == 0
    assert made(place) == made(whole)
    assert Store(place / ".store").drafts() == []
