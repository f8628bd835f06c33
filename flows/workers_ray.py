"""Workers as Ray actors with their own GPUs and cores, on a running cluster or one that is started here.

A placement group with one bundle per worker decides who runs where. Workers read and write the project's folder, which
every machine of the cluster must have at the same path. Their heartbeats are there too: Ray notices a process that has
ended, but waits for one that hangs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.ray_cluster import Head, connect, first_line
from flows.worker_process import Pulse, build, portable
from flows.workers_local import SILENT_SECONDS, cores_of, free_port, python_path
from r1_searcher.errors import PipelineError
from r1_searcher.params import Params
from r1_searcher.training.workers import WorkerLost, WorkerSettings

PLACE_SECONDS = 120.0  # for a cluster to have what the workers need


class Host:
    """The object in an actor's process: it makes the worker there and calls its methods."""

    def __init__(self, target: str, settings: WorkerSettings, folder: str, log: str, seat: tuple[int, int]) -> None:
        """``seat``: its number and the count of its kind on this node, which determine its cores."""
        os.chdir(folder)
        if hasattr(os, "sched_setaffinity"):  # Linux; before torch counts them
            cores = cores_of(*seat, settings.params.threads, os.sched_getaffinity(0))
            if cores:
                os.sched_setaffinity(0, cores)
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        self._pulse = Pulse(_beats(pulse_file(Path(log))))
        self._target, self._settings = target, settings
        self._worker: Any = None

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
        """Return the method's result, or the error that it raises."""
        self._pulse.mark_begin()
        try:
            if self._worker is None:
                self._worker = build(self._target, self._settings)
            return True, getattr(self._worker, method)(*args, **kwargs)
        except Exception as error:  # the flow judges every error
            return False, portable(error)
        finally:
            self._pulse.mark_end()


def pulse_file(log: Path) -> Path:
    """Return the heartbeat file of the worker with that log."""
    return log.with_suffix(".pulse")


def _beats(file: Path) -> Callable[[], None]:
    """Return a function that writes another number there each time, in the same few bytes, which works on a full
    disk."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    numbers = itertools.count()

    def beat() -> None:
        os.pwrite(descriptor, f"{next(numbers):016d}".encode(), 0)

    return beat


class RayWorker:
    """An actor behind the interface of ``flows.workers.Worker``."""

    def __init__(self, name: str, actor: Any, log: Path, head: Head) -> None:
        """``head``: of the actor's cluster."""
        self.name, self._actor, self._log, self._head = name, actor, log, head
        self._heard: tuple[bytes, float] = (b"", 0.0)  # the last heartbeat, and when it was seen

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method; raises what it raises, ``WorkerLost`` if the actor is gone or hangs, and another
        ``PipelineError`` if the cluster is gone."""
        import ray

        try:
            asked = self._actor.call.remote(method, args, kwargs)
            self._heard = (self._heard[0], time.monotonic())
            self._head.wait_for(asked, look=self._look)
            done, value = ray.get(asked)
        except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as e:
            self._head.check()  # a worker lost with its cluster is not retried
            raise self._lost(f"is gone: {first_line(e)}") from None
        except ray.exceptions.RaySystemError as error:
            raise self._head.lost(first_line(error)) from None
        if done:
            return value
        raise value

    def _look(self) -> None:
        """Raise ``WorkerLost``, after ending the worker, if it had a heartbeat and then none for ``SILENT_SECONDS``. A
        worker without any is still starting, for as long as Ray takes."""
        with contextlib.suppress(FileNotFoundError):
            if (beat := pulse_file(self._log).read_bytes()) != self._heard[0]:
                self._heard = (beat, time.monotonic())
        if self._heard[0] and time.monotonic() - self._heard[1] > SILENT_SECONDS:
            self.ask_to_end()
            raise self._lost(f"gave no sign of life for {SILENT_SECONDS:.0f} s and was ended")

    def _lost(self, how: str) -> WorkerLost:
        return WorkerLost(
            f"{self.name} {how}",
            where="workers",
            fix=f"{self._log} has its last lines; the same command resumes from the store",
        )

    def ask_to_end(self) -> None:
        """End it: an actor holds nothing that would have to be closed."""
        import ray

        ray.kill(self._actor)

    def close(self) -> None:
        """Clean up: ``ask_to_end`` was final, and Ray kills what does not end."""
        self.ask_to_end()
        pulse_file(self._log).unlink(missing_ok=True)


def bundles(params: Params) -> list[dict[str, float]]:
    """Return what each worker needs: the engines, the ranks, then the reference. One GPU is shared by halves."""
    hardware, workers, cpus = params.hardware, params.workers, float(params.threads)
    shared = 0.5 if hardware.gpus == 1 else None
    engine = {"CPU": cpus, "GPU": shared or float(hardware.tensor_parallel)}
    rank = {"CPU": cpus, "GPU": shared or 1.0}
    wanted = [engine] * workers.engines + [rank] * workers.ranks + [rank] * workers.reference
    if hardware.gpus:
        return wanted
    return [{"CPU": cpus} for _ in wanted]


def seats(nodes: Sequence[str], roles: Sequence[str]) -> list[tuple[int, int]]:
    """Return each worker's number and count among its role's workers on its node."""
    where = list(zip(nodes, roles, strict=True))
    return [(where[:place].count(one), where.count(one)) for place, one in enumerate(where)]


class RayPlace:
    """Starts workers on a cluster. Raises ``PipelineError`` if there is none, or it is too small."""

    def __init__(self, settings: WorkerSettings, logs: Path) -> None:
        self.settings, self.logs = settings, logs
        self._wanted = bundles(settings.params)
        cpus = sum(bundle["CPU"] for bundle in self._wanted)
        self._head = Head(connect(settings.params.workers.ray_address, cpus=cpus))
        try:
            self._group = self._reserve()
            self._seats = self._find_seats()
        except BaseException:
            self.close()
            raise

    def _reserve(self) -> Any:
        import ray
        from ray.util import placement_group

        group = placement_group(self._wanted, strategy="PACK")
        if not self._head.wait_for(group.ready(), PLACE_SECONDS):
            total = {name: sum(bundle.get(name, 0) for bundle in self._wanted) for name in ("CPU", "GPU")}
            has = ray.cluster_resources()
            raise PipelineError(
                f"the Ray cluster did not give {total['CPU']:g} CPUs and {total['GPU']:g} GPUs within "
                f"{PLACE_SECONDS:.0f} s; it has {has.get('CPU', 0):g} and {has.get('GPU', 0):g}, in use or not",
                where="workers",
                fix="wait for other jobs (`ray status`), add machines, or lower workers.engines and workers.ranks",
            )
        return group

    def _find_seats(self) -> list[tuple[int, int]]:
        """Return the workers' seats in the order of their bundles: Ray counts CPUs but does not assign them."""
        from ray.util import placement_group_table

        nodes = placement_group_table(self._group)["bundles_to_node_id"]
        workers = self.settings.params.workers
        roles = ["engine"] * workers.engines + ["trainer"] * workers.ranks + ["reference"] * workers.reference
        return seats([nodes[index] for index in range(len(roles))], roles)

    def start(self, role: str, number: int, target: str, environment: Mapping[str, str]) -> RayWorker:
        """Start a worker of a role, engine, trainer or reference, in its bundle."""
        import ray

        self._head.check()  # otherwise Ray would wait for it forever, uninterruptibly
        workers = self.settings.params.workers
        index = number + {"engine": 0, "trainer": workers.engines, "reference": workers.engines + workers.ranks}[role]
        wanted = self._wanted[index]
        gpus = {} if wanted.get("GPU") else {"CUDA_VISIBLE_DEVICES": ""}  # otherwise Ray assigns them
        log = self.logs / f"{role}-{number}.log"
        pulse_file(log).unlink(missing_ok=True)  # an earlier run's
        actor = (
            ray.remote(Host)
            .options(
                num_cpus=wanted["CPU"],
                num_gpus=wanted.get("GPU", 0),
                max_restarts=0,  # Prefect repeats a lost engine's shard; a lost rank ends its group
                scheduling_strategy=self._in_bundle(index),
                runtime_env={"env_vars": {"PYTHONPATH": python_path(), **environment, **gpus}},
            )
            .remote(target, self.settings, str(Path.cwd()), str(log), self._seats[index])
        )
        return RayWorker(f"{role} {number}", actor, log, self._head)

    def rendezvous(self) -> dict[str, str]:
        """Return where the ranks meet: the machine of the first one's bundle."""
        import ray

        self._head.check()
        task = ray.remote(_address).options(
            num_cpus=0,
            scheduling_strategy=self._in_bundle(self.settings.params.workers.engines),
            runtime_env={"env_vars": {"PYTHONPATH": python_path()}},
        )
        asked = task.remote()
        self._head.wait_for(asked)
        address, port = ray.get(asked)
        return {"MASTER_ADDR": address, "MASTER_PORT": str(port)}

    def _in_bundle(self, index: int) -> Any:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)

    def close(self) -> None:
        """Leave the cluster: reserved resources are freed, and a cluster of our own ends."""
        import ray

        ray.shutdown()


def _address() -> tuple[str, int]:
    """Return this machine's address in the cluster, and a port that is free now."""
    import ray

    return str(ray.util.get_node_ip_address()), free_port()
