"""A policy on its way from the trainer to engines in other processes: its folder, in the store until the next one.

Weights alone, without the optimizer's state: a checkpoint is not made for this. Beside them is a probe: a few
trajectories with the trainer's log-probabilities of their policy tokens, against which every engine that takes the
weights up is held, also one that is started later.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from stages.contract import grammar
from stages.contract.artefacts import read_table, write_table
from stages.contract.params import Params
from stages.contract.protocols import Engine
from stages.contract.schemas import ROLLOUTS
from stages.contract.store import Store
from stages.train.workers import Policy, Trainers

KIND = "weights"  # in the store
PROBES = 8  # trajectories, of as many questions
PROBE = "probe.parquet"
SCHEMA = pa.schema(
    {"token_ids": pa.list_(pa.int32()), "policy_mask": pa.list_(pa.bool_()), "logprobs": pa.list_(pa.float32())}
)


def find(store: Store, key: str) -> Policy | None:
    """The policy ``key``, or None."""
    place = store.get(KIND, key)
    return None if place is None else Policy(key, place / "policy", place / PROBE)


def write(store: Store, key: str, trainer: Trainers, *, step: int, parent: str, rollouts: Path) -> None:
    """Write the trainer's present policy under ``key``, and a probe from a file of rollouts."""
    with store.put(KIND, key) as draft:
        trainer.save_policy(draft / "policy", step=step, parent=parent)
        token_ids, masks = probes(read_table(rollouts, ROLLOUTS))
        logprobs = trainer.logprobs(token_ids, masks) if token_ids else []
        rows = {"token_ids": token_ids, "policy_mask": masks, "logprobs": logprobs}
        write_table(draft / PROBE, pa.Table.from_pydict(rows, schema=SCHEMA))


def probes(rollouts: pa.Table) -> tuple[list[list[int]], list[list[bool]]]:
    """Tokens (T_b,) and policy masks (T_b,) of the first trajectory of some questions."""
    chosen: dict[str, tuple[list[int], list[bool]]] = {}
    for row in rollouts.select(["question_id", "token_ids", "token_source"]).to_pylist():
        mask = [source == grammar.POLICY for source in row["token_source"]]
        if len(chosen) < PROBES and any(mask):
            chosen.setdefault(row["question_id"], (row["token_ids"], mask))
    return [ids for ids, _ in chosen.values()], [mask for _, mask in chosen.values()]


def check(engine: Engine, probe: Path, params: Params) -> None:
    """``PipelineError`` where ``engine`` does not hold the weights that the trainer handed over with ``probe``."""
    from stages.rollout.sync import check_sync, tolerance

    table = read_table(probe, SCHEMA)
    if table.num_rows:
        half = "bfloat16" in (params.rollout.dtype, params.update.dtype)
        temperature = params.rollout.temperature
        check_sync(
            engine,
            table["token_ids"].to_pylist(),
            table["policy_mask"].to_pylist(),
            table["logprobs"].to_pylist(),
            temperature=temperature,
            allowed=tolerance("bfloat16" if half else "float32", temperature),
        )
