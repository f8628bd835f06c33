"""A finished segment's outputs: linked out of the store, with the curves and the summary beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.contract.artefacts import atomic, write_json, write_text
from stages.contract.store import link_or_copy, link_tree
from stages.contract.weights import weights_sha256
from stages.train.curves import curves_csv
from stages.train.workbench import Workbench

# output, the store's kind that holds it, and which of the iteration's keys finds it there
PARTS = (("rollouts", "rollouts", "rollouts"), ("rewards", "rewards", "rewards"), ("advantages", "updates", "policy"))


def export(bench: Workbench, root: Path) -> dict[str, Any]:
    """Write everything that DVC versions of a finished segment, under ``root``; returns the summary."""
    final = bench.store.place("checkpoints", bench.keys[-1].policy)
    target = root / "data" / "train" / bench.name
    for part in ("policy", "trainer_state"):
        with atomic(target / part, folder=True) as draft:
            link_tree(final / part, draft)
    for kind, stored, key in PARTS:
        with atomic(target / kind, folder=True) as draft:
            for iteration, keys in enumerate(bench.keys):
                source = bench.store.place(stored, getattr(keys, key)) / f"{kind}.parquet"
                link_or_copy(source, draft / f"{iteration:04d}.parquet")
    curves = [bench.curve(iteration) for iteration in range(bench.length)]
    watches = {done: bench.watch(done).figures for done in range(bench.length + 1) if bench.is_watched(done)}
    write_text(root / "plots" / "train" / f"{bench.name}.csv", curves_csv(curves, watches))
    summary = {
        "last_iteration": {name: value for name, value in curves[-1].items() if name != "segment"},
        "watch_before": watches[0],
        "watch_after": watches[bench.length],
        "policy_sha256": weights_sha256(target / "policy"),
    }
    write_json(root / "metrics" / "train" / f"{bench.name}.json", summary)
    return summary
