"""A finished segment's outputs: linked from the store, with curves and summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files import sums
from r1_searcher.files.artefacts import atomic, sha256_file, write_json, write_text
from r1_searcher.files.store import link_or_copy, link_tree
from r1_searcher.files.weights import weights_sha256
from r1_searcher.training import segment_questions
from r1_searcher.training.curves import curves_csv
from r1_searcher.training.workbench import Workbench

# output, kind in the store, and which of the iteration's keys it has there
PARTS = (("rollouts", "rollouts", "rollouts"), ("rewards", "rewards", "rewards"), ("advantages", "updates", "policy"))


def export(bench: Workbench, root: Path) -> dict[str, Any]:
    """Write everything that DVC versions of a finished segment under ``root``; return the summary.

    Raises ``PipelineError`` if a stored file is missing or differs from its checksum.
    """
    final = _stored(bench, "checkpoints", bench.keys[-1].policy)
    target = root / "data" / "train" / bench.name
    for part in ("policy", "trainer_state"):
        with atomic(target / part, folder=True) as draft:
            link_tree(final / part, draft)
    for kind, stored, key in PARTS:
        with atomic(target / kind, folder=True) as draft:
            for iteration, keys in enumerate(bench.keys):
                entry = _stored(bench, stored, getattr(keys, key))
                _link_checked(entry, f"{kind}.parquet", draft / f"{iteration:04d}.parquet")
    curves = [bench.curve(iteration) for iteration in range(bench.length)]
    watches = {done: bench.watch(done).figures for done in range(bench.length + 1) if bench.is_watched(done)}
    write_text(root / "plots" / "train" / f"{bench.name}.csv", curves_csv(curves, watches))
    summary = {
        "last_iteration": {name: value for name, value in curves[-1].items() if name != "segment"},
        "watch_before": watches[0],
        "watch_after": watches[bench.length],
        "policy_sha256": weights_sha256(target / "policy"),
        **segment_questions.summary(bench.asked.left_out),
    }
    write_json(root / "metrics" / "train" / f"{bench.name}.json", summary)
    return summary


def _stored(bench: Workbench, kind: str, key: str) -> Path:
    entry = bench.store.get(kind, key)
    if entry is None:
        raise PipelineError(
            "is missing, or was damaged",
            where=str(bench.store.place(kind, key)),
            fix="run the same command again, which makes it again",
        )
    return entry


def _link_checked(entry: Path, name: str, target: Path) -> None:
    """Link or copy a file of an artefact to ``target`` and verify its checksum."""
    link_or_copy(entry / name, target)
    recorded = (sums.read(entry) or {}).get(name)
    if sha256_file(target) != recorded:
        raise sums.Damaged("is not what is stored", target)
