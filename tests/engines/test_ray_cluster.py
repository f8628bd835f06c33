"""Join a cluster made by `ray start --head`: with its token, without one, with another one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: make setup-ray")

from ray_heads import environment, head, home_with_token

ROOT = Path(__file__).resolve().parents[2]
JOIN = """
import sys
import ray  # before the mode is known: it must be taken up all the same
from flows.ray_cluster import connect
from r1_searcher.errors import PipelineError
try:
    connect(sys.argv[1], cpus=1)
    print("answers", ray.get(ray.remote(lambda: 6 * 7).remote()))
except PipelineError as error:
    print("error", error)
"""


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Home folders: two with different tokens, one without."""
    root = tmp_path_factory.mktemp("homes")
    (root / "none").mkdir()
    return {"none": root / "none", **{name: home_with_token(root / name) for name in ("one", "other")}}


@pytest.fixture(scope="module")
def guarded(homes: dict[str, Path]) -> Iterator[str]:
    """The address of a cluster that requires a token, because its machine had one."""
    with head(homes["one"]) as (address, _):
        yield address


@pytest.fixture(scope="module")
def unguarded(homes: dict[str, Path]) -> Iterator[str]:
    """The address of one that requires none."""
    with head(homes["none"]) as (address, _):
        yield address


def join(address: str, home: Path, **changes: str) -> tuple[str, str]:
    """Return a joining process' output on each stream."""
    run = subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env=environment(home, PYTHONPATH=str(ROOT), **changes),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return run.stdout.strip(), run.stderr


def test_a_cluster_with_a_token_is_joined_with_it(guarded: str, homes: dict[str, Path]) -> None:
    said, warned = join(guarded, homes["one"])
    assert said == "answers 42"
    assert "InvalidAuthToken" not in warned


@pytest.mark.parametrize("home", ["other", "none"])
def test_another_token_or_none_is_not_taken_for_no_cluster(guarded: str, homes: dict[str, Path], home: str) -> None:
    said, warned = join(guarded, homes[home])
    assert said.startswith(f"error workers.ray_address: the Ray cluster at {guarded} asks for a token")
    assert "~/.ray/auth_token" in said
    assert not warned


def test_a_cluster_without_a_token_is_joined_although_there_is_one_here(unguarded: str, homes: dict[str, Path]) -> None:
    """A driver that requires a token would not hear from its own workers."""
    assert join(unguarded, homes["one"])[0] == "answers 42"
    assert join(unguarded, homes["none"])[0] == "answers 42"


def test_a_mode_that_is_set_must_be_the_clusters(guarded: str, unguarded: str, homes: dict[str, Path]) -> None:
    said, _ = join(guarded, homes["one"], RAY_AUTH_MODE="disabled")
    assert "asks for a token, and RAY_AUTH_MODE is disabled here" in said
    said, _ = join(unguarded, homes["one"], RAY_AUTH_MODE="token")
    assert "asks for no token, and RAY_AUTH_MODE is token here" in said
    assert join(guarded, homes["one"], RAY_AUTH_MODE="token")[0] == "answers 42"
