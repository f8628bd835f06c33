"""One run a GPU: a training run that wants GPUs of this machine holds a slot of each, by Prefect's concurrency limits.

Engines stay loaded from one iteration to the next, and a trainer keeps its optimizer, so a GPU is held for a segment
and not for a task. Within a run an engine does one shard at a time (``flows.workers.EnginePool``). A run that finds its
GPUs taken waits, and says so. Where a run was killed its slots are free again after ``LEASE_SECONDS``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

from r1_searcher.params import Params
from r1_searcher.shown import show

LEASE_SECONDS = 60.0  # the shortest that Prefect takes; renewed as long as the run lives


def visible_gpus(count: int, visible: str | None) -> list[str]:
    """The first ``count`` GPUs by the names that CUDA_VISIBLE_DEVICES gives them; None: numbers."""
    names = [str(number) for number in range(count)] if visible is None else visible.split(",")
    return [name.strip() for name in names[:count]]


def slots(count: int) -> list[str]:
    """Names of the limits of this machine's GPUs, as the page shows them."""
    return [
        f"gpu:{socket.gethostname()}:{name}" for name in visible_gpus(count, os.environ.get("CUDA_VISIBLE_DEVICES"))
    ]


def slots_of(params: Params) -> list[str]:
    """What a run holds here. A Ray cluster that it joins gives each GPU to one of all its runs by itself; one that it
    starts knows of no other run."""
    joins = params.workers.place == "ray" and params.workers.ray_address
    return [] if joins else slots(params.hardware.gpus)


@contextlib.contextmanager
def held(names: Sequence[str]) -> Iterator[None]:
    """Hold a slot of every limit for as long as the block runs, made where it is not there; waits for all of them."""
    if not names:
        yield
        return
    from prefect.client.orchestration import get_client
    from prefect.concurrency.sync import concurrency

    with get_client(sync_client=True) as client:
        for name in names:
            client.upsert_global_concurrency_limit_by_name(name, 1)
        taken = [name for name in names if client.read_global_concurrency_limit_by_name(name).active_slots]
    if taken:
        show(f"waiting for {', '.join(taken)}, which another run holds")
    # A renewal that fails (a server that is restarted) must not end hours of training.
    with concurrency(
        list(names), occupy=1, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False
    ):
        yield
