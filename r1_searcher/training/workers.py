"""Who samples and who updates: all that the workbench knows of its workers.

The work itself is in ``engine_worker`` and ``trainer_worker``, plain classes. Here they are called in this
process; ``flows.workers`` has the same interface with a process a worker, on this machine or on a cluster.
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
    """A worker's process is gone. What it was asked for can be asked again: nothing of it was kept."""


@dataclass(frozen=True)
class Policy:
    """Weights as an engine takes them up: from a folder, or from the memory of a trainer in the same process.

    ``key`` names them wherever they come from; an engine that holds them loads nothing. ``probe``: a file of the
    trainer's own log-probabilities under these weights (``r1_searcher.training.handover``), which the engine is held
    against.
    """

    key: str
    folder: Path | None
    probe: Path | None = None
    weights: Callable[[], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Job:
    """What an engine is asked to sample. ``max_error_share`` None: lost trajectories are judged by whoever asks."""

    questions: pa.Table  # schema QUESTIONS
    samples: int
    seed: int
    greedy: bool = False
    max_error_share: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of the Parquet file; the engine's name is added


@dataclass(frozen=True)
class Lesson:
    """What a trainer is asked to learn from: Parquet files of an iteration.

    ``reference``: what ``References`` wrote of these rollouts, where there is one. ``on_policy``: the weights before
    the update sampled them.
    """

    rollouts: Path
    rewards: Path
    reference: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of advantages.parquet
    on_policy: bool = True


class Engines(Protocol):
    """Rollout engines behind one call; each does one job at a time, and whichever is free does the next."""

    def roll_out(self, policy: Policy, job: Job, draft: Path) -> None:
        """Sample with the weights of ``policy``: rollouts.parquet and timings.json in ``draft``. Raises
        ``PipelineError``; ``WorkerLost`` where the engine died of it."""
        ...

    def sleep(self) -> None:
        """Leave the GPU to a trainer that shares it, until the next job."""
        ...


class Trainers(Protocol):
    """The trainer, whatever its number of ranks. ``at``: updates that its weights have in this segment; None: it is
    not running, or was lost."""

    at: int | None

    def begin(self, folder: Path | None, at: int) -> None:
        """Take up weights and trainer state of ``folder``, which has ``at`` updates; None: the segment's start."""
        ...

    def update(self, lesson: Lesson, draft: Path | None = None) -> None:
        """One update. advantages.parquet and metrics.json in ``draft``; None: what is stored is replayed."""
        ...

    def save(self, policy: Path, *, step: int, parent: str) -> None:
        """Write the policy's folder, and the trainer state beside it."""
        ...

    def save_policy(self, policy: Path, *, step: int, parent: str) -> None:
        """Write the policy's folder alone."""
        ...

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """Log-probabilities (P_b,) of policy tokens under the present weights."""
        ...


class References(Protocol):
    """The frozen reference policy, the segment's first, where it is not the trainer's own."""

    def logprobs(self, rollouts: Path, file: Path) -> None:
        """Write the reference's log-probabilities of every policy token of ``rollouts`` to a Parquet ``file``."""
        ...


class Workers(Protocol):
    """Engines and trainer of a segment, started when they are first asked for something.

    ``weights`` gives the trainer's weights where it shares its process with the engine; None: they go by folder.
    """

    inside: bool
    weights: Callable[[], Mapping[str, Any]] | None

    @property
    def reference(self) -> References | None:
        """The reference policy's own process; None: there is none, or none is needed."""
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
    """What a worker is started with: small, and the same for all of a segment. Paths are relative to the project."""

    params: Params
    stage: str  # a key of params.train: stage1 or stage2
    start: Path  # the segment's first policy
    retriever: str  # the fingerprint that the retriever must have
