"""Place the workers of a training run: in this process, in local processes, or on a Ray cluster.

Their work is in ``r1_searcher.training``; here they are started, called, replaced when they die, and ended. An engine
does one job at a time, so a shard waits for a free one. The trainer's ranks live and die together.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol

from flows.gpus import hold_slots, slots_of
from flows.workers_local import LocalPlace
from r1_searcher.errors import PipelineError
from r1_searcher.training.workbench import Workbench
from r1_searcher.training.workers import Job, Lesson, Policy, WorkerLost, Workers, WorkerSettings

ENGINE = "r1_searcher.training.engine_worker:EngineWorker"
TRAINER = "r1_searcher.training.trainer_worker:TrainerWorker"
REFERENCE = "r1_searcher.training.reference_worker:ReferenceWorker"
LOGS = ".workers"  # in the store: one folder per segment, one file per worker
ATTEMPTS = 3  # to find a port that is still free when the first rank binds it
OTHERS_SECONDS = 5.0  # for other ranks' errors, once one has failed


class Worker(Protocol):
    """A worker in another process."""

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Run a method there; raises what it raises, and ``WorkerLost`` if the worker is gone."""
        ...

    def ask_to_end(self) -> None:
        """Begin to end it."""
        ...

    def close(self) -> None:
        """Make sure that it has ended."""
        ...


class Place(Protocol):
    """A place that workers can be started in."""

    def start(self, role: str, number: int, target: str, environment: Mapping[str, str]) -> Worker:
        """Start a worker without waiting."""
        ...

    def rendezvous(self) -> dict[str, str]:
        """Return the environment by which a trainer's ranks find each other."""
        ...

    def close(self) -> None:
        """Release the place."""
        ...


class EnginePool:
    """``Engines`` in other processes. Thread-safe: each caller gets an engine of its own, or waits for one."""

    def __init__(self, start: Callable[[int], Worker], engines: int) -> None:
        """No engine is started before it has a job."""
        self._start = start
        self._running: dict[int, Worker] = {}
        self._starting = threading.Lock()  # so that none is started after all were ended
        self._closed = False
        self._free: queue.PriorityQueue[tuple[bool, int]] = queue.PriorityQueue()  # running ones come first
        for number in range(engines):
            self._free.put((True, number))

    def roll_out(self, policy: Policy, job: Job, draft: Path) -> None:
        """See ``r1_searcher.training.workers.Engines``. A lost engine is restarted by the next job that needs it."""
        _, number = self._free.get()
        try:
            self._engine(number).call("roll_out", policy, job, draft)
        except WorkerLost:
            if self._closed:
                raise PipelineError("the run is ending") from None  # no second attempt
            self._running.pop(number).close()
            raise
        finally:
            self._free.put((number not in self._running, number))

    def sleep(self) -> None:
        """See ``r1_searcher.training.workers.Engines``."""
        for worker in self._running.values():
            worker.call("sleep")

    def _engine(self, number: int) -> Worker:
        with self._starting:
            if self._closed:
                raise PipelineError("the run is ending")
            if number not in self._running:
                self._running[number] = self._start(number)
            return self._running[number]

    def close(self) -> None:
        """End all engines."""
        with self._starting:
            self._closed = True
            _close(list(self._running.values()))


class TrainerGroup:
    """``Trainers`` in other processes: every rank gets the same call, and the first one's result counts.

    If one fails or dies, the others wait for it in a collective: all are ended, and ``at`` is None.
    """

    def __init__(self, place: Place, ranks: int) -> None:
        self.at: int | None = None
        self._place, self._ranks = place, ranks
        self._workers: list[Worker] = []

    def begin(self, folder: Path | None, at: int) -> None:
        """See ``r1_searcher.training.workers.Trainers``."""
        for attempt in range(ATTEMPTS):
            self._start()
            try:
                self._all("begin", folder, at)
                break
            except Exception as error:
                if not _port_was_taken(error) or attempt + 1 == ATTEMPTS:
                    raise
        self.at = at

    def update(self, lesson: Lesson, draft: Path | None = None) -> None:
        """See ``r1_searcher.training.workers.Trainers``."""
        at, self.at = self.at, None
        self._all("update", lesson, draft)
        assert at is not None, "a trainer begins somewhere before it updates"
        self.at = at + 1

    def save(self, policy: Path, *, step: int, parent: str) -> None:
        """See ``r1_searcher.training.workers.Trainers``."""
        self._all("save", policy, step=step, parent=parent)

    def save_policy(self, policy: Path, *, step: int, parent: str) -> None:
        """See ``r1_searcher.training.workers.Trainers``."""
        self._all("save_policy", policy, step=step, parent=parent)

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """See ``r1_searcher.training.workers.Trainers``."""
        found: list[list[float]] = self._all("logprobs", token_ids, policy_mask)
        return found

    def _start(self) -> None:
        self.close()
        meeting = self._place.rendezvous() if self._ranks > 1 else {}
        for rank in range(self._ranks):
            seat = {"RANK": str(rank), "WORLD_SIZE": str(self._ranks), "LOCAL_RANK": "0"} if meeting else {}
            self._workers.append(self._place.start("trainer", rank, TRAINER, {**meeting, **seat}))

    def _all(self, method: str, *args: Any, **kwargs: Any) -> Any:
        with futures.ThreadPoolExecutor(self._ranks) as threads:
            asked = [threads.submit(worker.call, method, *args, **kwargs) for worker in self._workers]
            try:
                futures.wait(asked, return_when=futures.FIRST_EXCEPTION)
                errors = [error for one in asked if one.done() and (error := one.exception())]
                if not errors:
                    return asked[0].result()
                ended, _ = futures.wait(asked, OTHERS_SECONDS)
                errors = [error for one in asked if one in ended and (error := one.exception())]
                # A dead rank makes the others fail: its end is the reason, not their errors.
                raise next((error for error in errors if isinstance(error, WorkerLost)), errors[0])
            except BaseException:  # Ctrl-C too: the threads return only when their workers have ended
                self.close()
                raise

    def close(self) -> None:
        """End all ranks."""
        self.at = None
        workers, self._workers = self._workers, []
        _close(workers)


def _port_was_taken(error: Exception) -> bool:
    text = str(error)
    return "EADDRINUSE" in text or "address already in use" in text.lower()


def _close(workers: list[Worker]) -> None:
    """End several workers in parallel."""
    for worker in workers:
        worker.ask_to_end()
    for worker in workers:
        worker.close()


class ReferenceProcess:
    """``References`` in another process: started on first use, and restarted after a loss."""

    def __init__(self, start: Callable[[], Worker]) -> None:
        self._start = start
        self._worker: Worker | None = None

    def logprobs(self, rollouts: Path, file: Path) -> None:
        """See ``r1_searcher.training.workers.References``."""
        if self._worker is None:
            self._worker = self._start()
        try:
            self._worker.call("logprobs", rollouts, file)
        except WorkerLost:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        worker, self._worker = self._worker, None
        _close([] if worker is None else [worker])


class Elsewhere:
    """``Workers`` in processes of their own, each started when first needed. Weights are handed over as folders."""

    inside = False

    def __init__(self, place: Place, settings: WorkerSettings) -> None:
        self._place = place
        self.weights: Callable[[], Mapping[str, Any]] | None = None
        workers = settings.params.workers
        self.engines = EnginePool(lambda number: place.start("engine", number, ENGINE, {}), workers.engines)
        self.trainer = TrainerGroup(place, workers.ranks)
        wanted = workers.reference and settings.params.update.kl_coefficient > 0
        self.reference = ReferenceProcess(lambda: place.start("reference", 0, REFERENCE, {})) if wanted else None

    def close(self) -> None:
        """End them all."""
        with contextlib.ExitStack() as ends:  # all of them, whichever fails; the place last
            ends.callback(self._place.close)
            ends.callback(self.trainer.close)
            if self.reference is not None:
                ends.callback(self.reference.close)
            ends.callback(self.engines.close)


@contextlib.contextmanager
def open_workers(bench: Workbench) -> Iterator[Workers]:
    """Give ``bench`` the workers that its parameters name; they end with the block, however it ends."""
    settings = bench.worker_settings
    where = settings.params.workers.place
    if where == "inside":
        with hold_slots(slots_of(settings.params)):
            yield bench.workers
        return
    logs = bench.store.root / LOGS / f"{bench.params.profile}-{bench.name}"
    place: Place
    if where == "ray":
        from flows.workers_ray import RayPlace

        place = RayPlace(settings, logs)
    else:
        place = LocalPlace(settings, logs)
    workers = Elsewhere(place, settings)
    bench.workers = workers
    try:
        with hold_slots(slots_of(settings.params)):
            yield workers
    finally:
        workers.close()
