"""What a policy answers without searching: questions that need no search teach no searching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.progress import Paced
from r1_searcher.questions.coverage import evenly_spaced
from r1_searcher.rewards.metrics import cover_em, em
from r1_searcher.types.protocols import Engine, Passage


class _NoRetriever:
    """A retriever that must not be used."""

    fingerprint = "none"

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        raise AssertionError("a closed book is not searched")


def closed_book(
    engine: Engine,
    splits: Mapping[str, pa.Table],
    rollout: params.Rollout,
    *,
    number: int,
    told: Callable[[str, dict[str, float]], None] = lambda name, figures: None,
) -> dict[str, dict[str, float]]:
    """Answer at most ``number`` questions per split greedily without a search; return EM and Cover-EM (the pass
    rate)."""
    from r1_searcher.rollout import roll_out

    found: dict[str, dict[str, float]] = {}
    for name, table in splits.items():
        asked = evenly_spaced(table, number)
        how: dict[str, Any] = {"samples": 1, "seed": 0, "greedy": True, "mode": "no_search"}
        with Paced(f"closed book, {name}", unit="questions") as paced:
            rollouts, _ = roll_out(engine, _NoRetriever(), asked, rollout, told=paced.told, **how)
        pairs = list(zip(rollouts["answer"].to_pylist(), rollouts["answers"].to_pylist(), strict=True))
        found[name] = {
            "num_questions": len(pairs),
            "em": sum(em(answer, golds) for answer, golds in pairs) / len(pairs),
            "cover_em": sum(cover_em(answer, golds) for answer, golds in pairs) / len(pairs),
        }
        told(name, found[name])
    return found


def open_policy(policy: Path, settings: params.Params) -> Engine:
    """Return the engine of a policy folder."""
    import torch

    from r1_searcher.rollout import load_engine

    torch.set_num_threads(settings.threads)
    return load_engine(policy, settings.rollout)
