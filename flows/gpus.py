"""One run per GPU: a training run holds a slot of each local GPU that it uses, by Prefect's concurrency limits.

Engines stay loaded between iterations, and a trainer keeps its optimizer, so GPUs are held for a segment, not for a
task. Within a run an engine does one shard at a time (``flows.workers.EnginePool``). A run whose GPUs are taken waits,
and says so. A killed run's slots are free again after ``LEASE_SECONDS``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

from r1_searcher.params import Params
from r1_searcher.shown import show

LEASE_SECONDS = 60.0  # the shortest that Prefect accepts; renewed while the run lives


def visible_gpus(count: int, visible: str | None) -> list[str]:
    """Return the first ``count`` GPUs by their names in CUDA_VISIBLE_DEVICES; None: numbers."""
    names = [str(number) for number in range(count)] if visible is None else visible.split(",")
    return [name.strip() for name in names[:count]]


def slots(count: int) -> list[str]:
    """Return the names of the limits of this machine's GPUs, as shown on the page."""
    return [
        f"gpu:{socket.gethostname()}:{name}" for name in visible_gpus(count, os.environ.get("CUDA_VISIBLE_DEVICES"))
    ]


def slots_of(params: Params) -> list[str]:
    """Return the slots that a run holds here. A joined Ray cluster assigns its GPUs itself; a cluster started by the
    run knows no other runs."""
    joins = params.workers.place == "ray" and params.workers.ray_address
    return [] if joins else slots(params.hardware.gpus)


@contextlib.contextmanager
def hold_slots(names: Sequence[str]) -> Iterator[None]:
    """Hold a slot of every limit during the block, creating missing limits; waits for all of them."""
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
    # A failed renewal (a restarting server) must not end hours of training.
    with concurrency(
        list(names), occupy=1, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False
    ):
        yield
