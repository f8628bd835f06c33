"""Join a Ray cluster or start one here, with the authentication that it requires.

Ray takes its authentication mode from RAY_AUTH_MODE, which must be equal in every process of a cluster. Since 2.59
`ray.init()` without an address creates a token (~/.ray/auth_token) if there is none, and `ray start` requires the token
if there is one; a driver that joins by host:port sends none unless told to, and a driver that sends one to a cluster
without authentication never hears of its workers. So the cluster is asked first.
"""

from __future__ import annotations

import importlib.util
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from r1_searcher.errors import PipelineError

CONNECT_SECONDS = 5.0  # for the head of a cluster to answer at all
ASK_SECONDS = 60.0  # for a process that loads Ray and queries a listening head
WATCH_SECONDS = 3.0  # between two checks of the head during a call
LOOKS, LOOK_SECONDS = 3, 1.0  # failed checks, and seconds between them, until a head counts as gone
AUTHENTICATION = "RAY_AUTH_MODE"
WITHOUT, WITH = "disabled", "token"  # the option's values
REFUSED = "InvalidAuthToken"


def connect(address: str, *, cpus: float) -> str:
    """Join the cluster at ``address`` (host:port or auto), or start one here with at least ``cpus`` CPUs; return its
    host:port. Raises ``PipelineError``."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if importlib.util.find_spec("ray") is None:
        raise PipelineError("Ray is not installed", where="workers.place", fix="make setup-ray")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if not address:
        import ray

        ray.init(**settings, num_cpus=max(int(cpus), os.cpu_count() or 1), include_dashboard=False)
        return _address()
    if address != "auto":
        check_answers(address)
    os.environ[AUTHENTICATION] = authentication(address)
    import ray

    ray._raylet.Config.initialize("")  # as Ray does when it changes the mode itself: the mode was read on import
    try:
        ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_head(address, first_line(error)) from None
    return _address() if address == "auto" else address


def _address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


def check_answers(address: str) -> None:
    """Raise ``PipelineError`` if nothing listens at ``address``: Ray itself would retry for a long time."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise PipelineError(
            f"not an address of a Ray cluster: {address!r}",
            where="workers.ray_address",
            fix="write host:port (usually 6379), auto, or nothing",
        )
    if (why := _connection_error(address)) is not None:
        raise _no_head(address, why)


def _connection_error(address: str) -> str | None:
    """Return why nothing listens at an address; None if something does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return str(error)
    return None


def authentication(address: str) -> str:
    """Return the cluster's RAY_AUTH_MODE. Raises ``PipelineError`` if it differs from the one set here, rejects our
    token, or does not answer like a cluster."""
    ours = os.environ.get(AUTHENTICATION)
    said = _ask(address, WITHOUT)
    if said is None:
        if ours == WITH:
            raise _other_mode(f"the Ray cluster at {address} asks for no token", WITH)
        return WITHOUT
    if REFUSED not in said:
        raise _no_head(address, said)
    if ours == WITHOUT:
        raise _other_mode(f"the Ray cluster at {address} asks for a token", WITHOUT)
    if _ask(address, WITH) is not None:
        raise PipelineError(
            f"the Ray cluster at {address} asks for a token, and this machine has none, or another one",
            where="workers.ray_address",
            fix="copy ~/.ray/auth_token of its first machine to this one; docs/workers.md, More machines",
        )
    return WITH


def _ask(address: str, mode: str) -> str | None:
    """Return what prevents joining a cluster in a mode; None if nothing. Runs in a process of its own: a process has
    only one mode, and every refusal prints a warning."""
    try:
        run = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address],
            env={**os.environ, AUTHENTICATION: mode},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"what listens there did not answer as Ray does within {ASK_SECONDS:.0f} s"
    if not run.returncode:
        return None
    lines = (run.stdout + run.stderr).strip().splitlines()
    return next((line for line in lines if REFUSED in line), lines[-1] if lines else f"status {run.returncode}")


def _other_mode(what: str, ours: str) -> PipelineError:
    return PipelineError(
        f"{what}, and {AUTHENTICATION} is {ours} here",
        where="workers.ray_address",
        fix=f"unset {AUTHENTICATION}, or start the cluster with the same",
    )


def _no_head(address: str, why: str) -> PipelineError:
    return PipelineError(
        f"no Ray cluster answers at {address}: {why}",
        where="workers.ray_address",
        fix="`ray start --head` on its first machine; or leave the address empty, and one is started here",
    )


class Head:
    """The head of a joined cluster, checked every few seconds while a call runs: without it Ray continues for a minute
    and then ends this process."""

    def __init__(self, address: str) -> None:
        """``address``: host:port."""
        self.address = address
        self._seen = time.monotonic()

    def wait_for(self, asked: Any, seconds: float = math.inf, look: Callable[[], None] | None = None) -> bool:
        """Wait for the cluster object ``asked``; return whether it came in time. Raises ``PipelineError`` if the head
        is gone. ``look`` is called now and then; its exceptions end the wait."""
        import ray

        end = time.monotonic() + seconds
        while True:
            if time.monotonic() - self._seen >= WATCH_SECONDS:  # over all calls: many are shorter
                self.check()
            if ray.wait([asked], timeout=max(0.0, min(WATCH_SECONDS, end - time.monotonic())))[0]:
                return True
            if time.monotonic() >= end:
                return False
            if look is not None:
                look()

    def check(self) -> None:
        """Raise ``PipelineError`` if the head no longer listens."""
        for _ in range(LOOKS):
            why = _connection_error(self.address)
            if why is None:
                self._seen = time.monotonic()
                return
            time.sleep(LOOK_SECONDS)
        raise self.lost(str(why))

    def lost(self, why: str) -> PipelineError:
        """Return the error for a cluster that is gone."""
        return PipelineError(
            f"the Ray cluster at {self.address} no longer answers: {why}",
            where="workers",
            fix="start it again (`ray start --head`); the same command resumes from the store",
        )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type's name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
