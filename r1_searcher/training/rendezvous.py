"""Rendezvous of a trainer's ranks on one machine: a torch store that listens on loopback only.

torch's default, from environment variables, listens on every address of the machine, whatever MASTER_ADDR says, and
whoever reaches it could change what the ranks agree on.
"""

from __future__ import annotations

import datetime
import os
import socket

LOOPBACK = "127.0.0.1"
SECONDS = 600.0  # until all ranks must have joined


def join_process_group() -> None:
    """Create the process group if the ranks meet on this machine's loopback; otherwise do nothing."""
    if os.environ.get("MASTER_ADDR") != LOOPBACK or "RANK" not in os.environ:
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    rank, ranks, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    listening = None
    if rank == 0:
        listening = socket.create_server((LOOPBACK, port)).detach()  # the store closes it
    store = dist.TCPStore(  # type: ignore[attr-defined]
        LOOPBACK,
        port,
        ranks,
        is_master=rank == 0,
        timeout=datetime.timedelta(seconds=SECONDS),
        master_listen_fd=listening,
    )
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks)
