"""A Ray cluster: joined, or started here; with the authentication that it asks for.

Ray takes its mode of authentication from RAY_AUTH_MODE, which must be the same in every process of a cluster. Since
2.59 `ray.init()` without an address makes a token (~/.ray/auth_token) where there is none, and `ray start` asks for the
token wherever there is one; a driver that joins by host:port sends none unless it is told to, and a driver that sends
one to a cluster without does not hear of its workers. So the cluster is asked first.
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
ASK_SECONDS = 60.0  # for a process that loads Ray and asks a head that listens
WATCH_SECONDS = 3.0  # between two looks at the head while a call is under way
LOOKS, LOOK_SECONDS = 3, 1.0  # in vain, so far apart, until a head is gone
AUTHENTICATION = "RAY_AUTH_MODE"
WITHOUT, WITH = "disabled", "token"  # its values
REFUSED = "InvalidAuthToken"


def connect(address: str, *, cpus: float) -> str:
    """Join the cluster at ``address`` (host:port or auto), or start one here that counts at least so many CPUs; its
    host:port."""
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

    ray._raylet.Config.initialize("")  # as Ray does when it changes the mode itself: it was read at the import
    try:
        ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_head(address, first_line(error)) from None
    return _address() if address == "auto" else address


def _address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


def check_answers(address: str) -> None:
    """``PipelineError`` where nobody listens at ``address``: Ray itself would try for a long time."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise PipelineError(
            f"not an address of a Ray cluster: {address!r}",
            where="workers.ray_address",
            fix="write host:port (usually 6379), auto, or nothing",
        )
    if (why := _unheard(address)) is not None:
        raise _no_head(address, why)


def _unheard(address: str) -> str | None:
    """Why nobody listens at an address; None: somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return str(error)
    return None


def authentication(address: str) -> str:
    """RAY_AUTH_MODE of the cluster. Raises ``PipelineError`` where it has another than is set here, refuses the token
    that is here, or does not answer as a cluster."""
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
            f"the Ray cluster at {address} asks for a token, and there is none here, or another",
            where="workers.ray_address",
            fix="copy ~/.ray/auth_token of its first machine to this one; docs/workers.md, More machines",
        )
    return WITH


def _ask(address: str, mode: str) -> str | None:
    """What is wrong with joining a cluster in a mode; None: nothing. In a process of its own: one process has one mode,
    and every refusal is a warning on its output."""
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
    """The head of a cluster that was joined, looked at every few seconds as long as something is asked of the cluster:
    Ray itself goes on without it for a minute and then ends this process."""

    def __init__(self, address: str) -> None:
        """``address``: host:port."""
        self.address = address
        self._seen = time.monotonic()

    def answered(self, asked: Any, seconds: float = math.inf, look: Callable[[], None] | None = None) -> bool:
        """Wait for what ``asked``, an object of the cluster, refers to; whether it came within so long. Raises
        ``PipelineError`` where the head is gone. ``look`` is called now and then meanwhile; what it raises ends it."""
        import ray

        end = time.monotonic() + seconds
        while True:
            if time.monotonic() - self._seen >= WATCH_SECONDS:  # of whichever call: many are shorter
                self.check()
            if ray.wait([asked], timeout=max(0.0, min(WATCH_SECONDS, end - time.monotonic())))[0]:
                return True
            if time.monotonic() >= end:
                return False
            if look is not None:
                look()

    def check(self) -> None:
        """``PipelineError`` where it does not listen any more."""
        for _ in range(LOOKS):
            why = _unheard(self.address)
            if why is None:
                self._seen = time.monotonic()
                return
            time.sleep(LOOK_SECONDS)
        raise self.lost(str(why))

    def lost(self, why: str) -> PipelineError:
        """The cluster that ran is gone."""
        return PipelineError(
            f"the Ray cluster at {self.address} does not answer any more: {why}",
            where="workers",
            fix="start it again (`ray start --head`); the same command goes on from what is stored",
        )


def first_line(error: BaseException) -> str:
    """Of what an error says; its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
