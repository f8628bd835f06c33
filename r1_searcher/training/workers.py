"""Protocols of the workers that sample and update, as the workbench knows them.

The work itself is in ``engine_worker`` and ``trainer_worker``, plain classes, which run in this process.
``flows.workers`` has the same interface with one process per worker, on this machine or a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params


class WorkerLost(PipelineError):
    """A worker's process is gone. Its task can be repeated: nothing of it was kept."""


@dataclass(frozen=True)
class Policy:
    """Weights for an engine: from a folder, or from the memory of a trainer in the same process.

    ``key`` identifies them wherever they come from; an engine that already holds them loads nothing. ``probe``: a file
    of the trainer's own log-probabilities under these weights (``r1_searcher.training.handover``), with which the
    engine is checked.
    """

    key: str
    folder: Path | None
    probe: Path | None = None
    weights: Callable[[], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Job:
    """What an engine is asked to sample. ``max_error_share`` None: the caller judges lost trajectories."""

    questions: pa.Table  # schema QUESTIONS
    samples: int
    seed: int
    greedy: bool = False
    max_error_share: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of the Parquet file; the engine's name is added


@dataclass(frozen=True)
class Lesson:
    """What a trainer learns from: Parquet files of one iteration.

    ``reference``: what ``References`` wrote for these rollouts, if anything. ``on_policy``: the weights before the
    update sampled them.
    """

    rollouts: Path
    rewards: Path
    reference: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of advantages.parquet
    on_policy: bool = True


class Engines(Protocol):
    """Rollout engines behind one call; each runs one job at a time, and a free one takes the next."""

    def roll_out(self, policy: Policy, job: Job, draft: Path) -> None:
        """Sample with the weights of ``policy``; write rollouts.parquet and timings.json to ``draft``.

        Raises ``PipelineError``; ``WorkerLost`` if the engine died.
        """
        ...

    def sleep(self) -> None:
        """Leave the GPU to a trainer that shares it, until the next job."""
        ...


class Trainers(Protocol):
    """The trainer, whatever its number of ranks.

    ``at``: updates that its weights have had in this segment; None: it is not running, or was lost.
    """

    at: int | None

    def begin(self, folder: Path | None, at: int) -> None:
        """Load weights and trainer state of ``folder``, which has had ``at`` updates; None: the segment's start."""
        ...

    def update(self, lesson: Lesson, draft: Path | None = None) -> None:
        """Run one update; write advantages.parquet and metrics.json to ``draft``. None: replay what is stored."""
        ...

    def save(self, policy: Path, *, step: int, parent: str) -> None:
        """Write the policy's folder and the trainer state beside it."""
        ...

    def save_policy(self, policy: Path, *, step: int, parent: str) -> None:
        """Write the policy's folder only."""
        ...

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """Return log-probabilities (P_b,) of policy tokens under the current weights."""
        ...


class References(Protocol):
    """The frozen reference policy (the segment's first), if the trainer does not hold it."""

    def logprobs(self, rollouts: Path, file: Path) -> None:
        """Write the reference's log-probabilities of every policy token of ``rollouts`` to a Parquet ``file``."""
        ...


class Workers(Protocol):
    """Engines and trainer of a segment, started on first use.

    ``weights`` returns the trainer's weights if it shares its process with the engine; None: they are handed over as
    folders.
    """

    inside: bool
    weights: Callable[[], Mapping[str, Any]] | None

    @property
    def reference(self) -> References | None:
        """The reference policy's own process; None if there is none."""
        ...

    @property
    def engines(self) -> Engines:
        """All engines behind one call."""
        ...

    @property
    def trainer(self) -> Trainers:
        """All ranks behind one call."""
        ...


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker starts with: small, and equal for all of a segment. Paths are relative to the project."""

    params: Params
    stage: str  # a key of params.train: stage1 or stage2
    start: Path  # the segment's first policy
    retriever: str  # fingerprint that the retriever must have
