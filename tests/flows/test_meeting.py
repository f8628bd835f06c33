"""The ranks of a trainer on this machine listen on loopback alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import flows
from flows.workers_local import LocalPlace

RANK = """
import json, os, psutil, torch, torch.distributed as dist
from r1_searcher.training.rendezvous import join_process_group
join_process_group()
total = torch.ones(1) * (dist.get_rank() + 1)
dist.all_reduce(total)
listening = [one.laddr.ip for one in psutil.Process().net_connections() if one.status == psutil.CONN_LISTEN]
dist.barrier()
print(json.dumps([total.item(), listening]))
"""


def test_the_ranks_meet_on_loopback_alone() -> None:
    meeting = LocalPlace(cast(Any, None), Path()).rendezvous()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK],
            cwd=flows.ROOT,
            env={**os.environ, **meeting, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [json.loads(rank.communicate(timeout=300)[0].splitlines()[-1]) for rank in ranks]
    assert [total for total, _ in said] == [3.0, 3.0]
    assert said[0][1], "the first one has the store"
    assert {address for _, listening in said for address in listening} == {"127.0.0.1"}
