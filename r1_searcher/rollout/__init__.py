"""Rollout: sample trajectories from questions. Holds the engines and the loop that is the policy's environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from r1_searcher.progress import Told, nobody

if TYPE_CHECKING:
    import pyarrow as pa

    from r1_searcher import params
    from r1_searcher.transcripts.grammar import Mode
    from r1_searcher.types.protocols import Engine, Retriever


def load_engine(policy: Path | str, rollout: params.Rollout, *, tensor_parallel: int = 1) -> Engine:
    """Load the engine that ``rollout.engine`` names, with the weights of a policy folder or hub name, on
    ``tensor_parallel`` GPUs. Raises ``PipelineError``; see ``r1_searcher.rollout.engines.load_engine``."""
    from r1_searcher.rollout.engines import load_engine

    return load_engine(policy, rollout, tensor_parallel=tensor_parallel)


def roll_out(
    engine: Engine,
    retriever: Retriever,
    questions: pa.Table,
    rollout: params.Rollout,
    *,
    samples: int,
    seed: int,
    greedy: bool = False,
    mode: Mode = "search",
    told: Told = nobody,
) -> tuple[pa.Table, dict[str, float]]:
    """Return trajectories (schema ROLLOUTS) and timings; see ``r1_searcher.rollout.loop.roll_out``."""
    from r1_searcher.rollout.loop import roll_out

    return roll_out(
        engine,
        retriever,
        questions,
        rollout,
        samples=samples,
        seed=seed,
        greedy=greedy,
        mode=mode,
        told=told,
    )
