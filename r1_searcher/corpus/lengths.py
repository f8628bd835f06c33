"""How long a corpus' passages are, for its report: a policy sees rollout.max_passage_tokens of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r1_searcher import scripts
from r1_searcher.files import passages

_AT_MOST = 100_000  # passages to measure
_QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def passage_lengths(folder: Path, at_most: int = _AT_MOST) -> dict[str, object]:
    """Return quantiles of the texts' ``words`` (``scripts.words``), ``characters`` and UTF-8 ``bytes``.

    ``measured``: how many passages were measured, evenly spaced, if there are more than ``at_most``. A tokenizer of
    bytes makes at most as many tokens as there are bytes.
    """
    step = -(-passages.count(folder) // at_most) or 1
    measured: list[tuple[int, int, int]] = []
    first = 0  # row of the next batch that is measured
    for batch in passages.batches(folder, ["text"]):
        for text in batch["text"][first::step].to_pylist() if first < batch.num_rows else []:
            measured.append((len(scripts.words(text)), len(text), len(text.encode())))
        first = (first - batch.num_rows) % step
    ordered = np.sort(np.array(measured, dtype=np.int64).reshape(-1, 3), axis=0)
    found: dict[str, object] = {"measured": len(ordered)}
    for place, name in enumerate(("words", "characters", "bytes")):
        column = ordered[:, place]
        found[name] = {
            quantile: int(column[min(len(column) - 1, int(share * len(column)))])
            for quantile, share in _QUANTILES.items()
        }
    return found
