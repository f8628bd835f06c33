"""Workers as local processes, each pinned to its GPUs or CPU cores before any framework is loaded."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import flows
from flows.gpus import visible_gpus
from flows.worker_process import BEAT
from r1_searcher.errors import PipelineError
from r1_searcher.params import Params
from r1_searcher.training.workers import WorkerLost, WorkerSettings

SILENT_SECONDS = 120.0  # without a heartbeat of a working worker: it hangs
_GRACE_SECONDS = 5.0  # for a worker that is asked to end; then it is killed


class LocalWorker:
    """A process with one object in it; ``call`` runs a method there and waits for the result."""

    def __init__(
        self,
        name: str,
        target: str,
        settings: WorkerSettings,
        *,
        environment: Mapping[str, str],
        cores: set[int] | None,
        log: Path,
    ) -> None:
        """Start it without waiting. Its output goes to ``log``."""
        self.name, self._log = name, log
        self._busy = threading.Lock()
        ours, its = socket.socketpair()
        log.parent.mkdir(parents=True, exist_ok=True)
        with its, open(log, "ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.worker_process", str(its.fileno())],
                env={**os.environ, **environment, "PYTHONPATH": python_path()},
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the flow; and a session can be ended as a whole
            )
        self._connection = Connection(ours.detach())
        self._send((target, settings, cores))

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method; raises what it raises, and ``WorkerLost`` if the process ended or hangs."""
        with self._busy:
            self._send((method, args, kwargs))
            try:
                while (reply := self._receive()) == BEAT:
                    pass
            except (EOFError, OSError):
                raise self._lost() from None
        done, value = reply
        if done:
            return value
        raise value

    def _receive(self) -> Any:
        """Return the next message. Raises ``WorkerLost``, after ending the worker, if none comes for
        ``SILENT_SECONDS``."""
        # Polled twice: if this process itself was stopped, the time is over although the message is there.
        if self._connection.poll(SILENT_SECONDS) or self._connection.poll():
            return self._connection.recv()
        self._kill()
        self._process.wait()
        raise self._gone(f"gave no sign of life for {SILENT_SECONDS:.0f} s and was ended")

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._lost() from None

    def _lost(self) -> WorkerLost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        status = self._process.returncode
        if status is None:
            how = "answers no more"
        elif status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        else:
            how = f"ended with status {status}"
        return self._gone(how)

    def _gone(self, how: str) -> WorkerLost:
        return WorkerLost(
            f"{self.name} (process {self._process.pid}) {how}",
            where="workers",
            fix=f"{self._log} has its last lines; the same command resumes from the store",
        )

    def ask_to_end(self) -> None:
        """Ask it to end when it is idle; a working one is killed."""
        if self._busy.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    self._connection.send(None)
            finally:
                self._busy.release()
        else:
            self._kill()

    def close(self) -> None:
        """End it with all its children; a running call in another thread raises ``WorkerLost``."""
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        self._kill()
        self._process.wait()
        with self._busy:
            self._connection.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def python_path() -> str:
    """Return PYTHONPATH with the project first, wherever the flow was started."""
    return os.pathsep.join([str(flows.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def gpus_of(params: Params, role: str, number: int, visible: str | None) -> str:
    """Return a worker's CUDA_VISIBLE_DEVICES: the trainer's ranks have the first GPUs, then engines, then the
    reference.

    ``visible``: the flow's own CUDA_VISIBLE_DEVICES, None if all are visible. Empty if the profile uses no GPU. Raises
    ``PipelineError`` for too few.
    """
    hardware = params.hardware
    if not hardware.gpus:
        return ""
    names = visible_gpus(hardware.gpus, visible)
    if len(names) < hardware.gpus:
        raise PipelineError(
            f"the profile has workers on {hardware.gpus} GPUs, and CUDA_VISIBLE_DEVICES names {len(names)}",
            where="hardware.gpus",
            fix="name more, or none: unset CUDA_VISIBLE_DEVICES",
        )
    if hardware.gpus == 1:
        return names[0]
    if role == "trainer":
        return names[number]
    if role == "reference":
        return names[hardware.trainer_gpus + hardware.engine_gpus]
    first = hardware.trainer_gpus + number * hardware.tensor_parallel
    return ",".join(names[first : first + hardware.tensor_parallel])


def cores_of(number: int, workers: int, threads: int, available: set[int]) -> set[int] | None:
    """Return the CPU cores of one of ``workers`` workers that work at once: a block of its own if every block has a
    core per thread; None: not pinned."""
    size = len(available) // workers
    if size < threads:
        return None
    return set(sorted(available)[number * size : (number + 1) * size])


def free_port() -> int:
    """Return a port of this machine's loopback that is free now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class LocalPlace:
    """Starts workers on this machine."""

    def __init__(self, settings: WorkerSettings, logs: Path) -> None:
        self.settings, self.logs = settings, logs

    def start(self, role: str, number: int, target: str, environment: Mapping[str, str]) -> LocalWorker:
        """Start a worker of a role: engine, trainer or reference."""
        params = self.settings.params
        count = {"engine": params.workers.engines, "trainer": params.workers.ranks, "reference": 1}[role]
        gpus = gpus_of(params, role, number, os.environ.get("CUDA_VISIBLE_DEVICES"))
        cores = None
        if hasattr(os, "sched_getaffinity"):  # Linux
            cores = cores_of(number, count, params.threads, os.sched_getaffinity(0))
        return LocalWorker(
            f"{role} {number}",
            target,
            self.settings,
            environment={**environment, "CUDA_VISIBLE_DEVICES": gpus},
            cores=cores,
            log=self.logs / f"{role}-{number}.log",
        )

    def rendezvous(self) -> dict[str, str]:
        """Return where a trainer's ranks meet."""
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        if sys.platform == "linux":  # for their connections to each other too
            meeting |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
        return meeting

    def close(self) -> None:
        """Do nothing: only the workers themselves were started."""
