"""The protocols through which rollout and update see the rest.

Engines sample, retrievers search, trainers learn. Each has more than one implementation; users of them import only this
file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True)
class Sampling:
    """How the policy's tokens are sampled. ``temperature`` 0 is greedy."""

    temperature: float
    top_p: float
    max_turn_tokens: int  # new tokens per turn
    max_total_tokens: int  # prompt, policy and document tokens of a trajectory


@dataclass(frozen=True)
class Turn:
    """One turn of one trajectory as the engine sampled it: tokens (N,) and their log-probabilities (N,).

    ``logprobs`` are under the temperature-scaled policy before top-p. ``stop`` is the stop string that ended the turn,
    or one of the grammar's finish reasons: end_of_text, turn_limit, length_limit.
    """

    trajectory: int
    token_ids: list[int]
    logprobs: list[float]
    stop: str


@runtime_checkable
class Engine(Protocol):
    """Samples tokens with log-probabilities. A trajectory is added once, extended with documents, and leaves the batch
    when released; none waits for another's search.

    ``overlaps``: an ended turn may be extended or released at any later time, while ``step`` continues the other
    trajectories. If False, every ended turn is answered before the next ``step``.
    """

    name: str
    overlaps: bool

    def encode(self, text: str) -> list[int]:
        """Return a text's token ids, without adding special tokens."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, keeping special tokens and spaces."""
        ...

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        """Begin an empty batch."""
        ...

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        """Add a trajectory to the batch. Its samples depend only on ``seed`` and its own tokens."""
        ...

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        """Sample until at least one turn ends; return the ended turns.

        Empty if nothing is left to run, apart from trajectories whose ended turn awaits its answer (``overlaps``). An
        engine that ``overlaps`` calls ``interrupted`` after every token and returns if it is true, perhaps without a
        turn: a result has arrived for a waiting trajectory. Other engines ignore it.
        """
        ...

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        """Append document tokens to a trajectory whose turn ended, and continue it."""
        ...

    def release(self, trajectory: int) -> None:
        """Remove a trajectory whose turn ended from the batch."""
        ...

    def load_weights(self, policy: Path) -> None:
        """Load the weights of a policy folder of the same architecture, without a restart.

        Call it between batches. Raises ``PipelineError`` if the folder's weights do not fit.
        ``r1_searcher.rollout.sync.check_sync`` verifies that they arrived.
        """
        ...

    def score(self, token_ids: Sequence[Sequence[int]], *, temperature: float) -> list[list[float]]:
        """Return the log-probability of every token of B sequences given those before it, lists (T_b,), the first entry
        0.

        Under the policy scaled by ``temperature`` (0: unscaled), before top-p, as in ``Turn``. Call it between batches.
        """
        ...

    def sleep(self) -> None:
        """Release what accelerator memory can be released between batches. Does nothing without an accelerator, or if
        the memory could not be taken again without a restart."""
        ...

    def wake(self) -> None:
        """Take the memory again. Weights may have to be loaded; otherwise the engine is as before."""
        ...


@runtime_checkable
class InMemoryEngine(Engine, Protocol):
    """An engine that takes weights from a trainer in the same process (``EngineKind.in_memory``)."""

    def load_state(self, weights: Mapping[str, Any]) -> None:
        """Copy tensors by the model's own parameter names; all are present."""
        ...


class EngineKind:
    """What is registered as an engine: how to load it, and its properties before it is loaded.

    Attributes:
        in_memory: its engine is an ``InMemoryEngine``.
        tensor_parallel: it can be spread over several GPUs.
        own_process: it takes memory in a process of its own, which the trainer must leave to it.
        fixed_cache: it takes all of its memory when it starts (``rollout.vllm``); else its cache grows with
            ``rollout.max_batch``.
        packages: packages whose versions affect rounding, besides torch and transformers; part of the store's keys.
    """

    in_memory: ClassVar[bool] = False
    tensor_parallel: ClassVar[bool] = False
    own_process: ClassVar[bool] = False
    fixed_cache: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()

    def sleeps(self, rollout: Any) -> bool:
        """Whether it releases a GPU while the trainer works. ``rollout``: ``r1_searcher.params.Rollout``."""
        return False

    def load(self, policy: Path | str, tokenizer: Any, rollout: Any, *, tensor_parallel: int) -> Engine:
        """Return an engine with the weights of a policy folder or hub name.

        ``tokenizer``: the policy's; ``rollout``: ``r1_searcher.params.Rollout``; ``tensor_parallel``: number of GPUs.
        """
        raise NotImplementedError


@runtime_checkable
class Tokenized(Protocol):
    """An engine with the policy's tokenizer (transformers'): special tokens and the chat template are asked of it."""

    tokenizer: Any


def tokenizer_of(engine: Engine) -> Any:
    """Return the tokenizer of an engine that has one, else None, e.g. for an engine whose tokens are characters."""
    return engine.tokenizer if isinstance(engine, Tokenized) else None


@dataclass(frozen=True)
class Passage:
    """A passage that was found; ``score`` is the retriever's, higher is better."""

    passage_id: str
    title: str
    text: str
    score: float


class ToolError(Exception):
    """A tool call failed. The trajectory is marked and left out of training."""


class RetrieverError(ToolError):
    """A search failed after its retries. The trajectory is marked and left out of training.

    ``found``: if only some of a call's queries failed, one entry per query: its passages or its own error.
    """

    def __init__(self, what: str, found: Sequence[list[Passage] | RetrieverError] | None = None) -> None:
        super().__init__(what)
        self.found = found


@runtime_checkable
class Retriever(Protocol):
    """Finds passages for queries."""

    fingerprint: str  # identifies everything that a search result depends on

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the best ``k`` passages per query, best first; fewer if fewer match. Raises ``RetrieverError``."""
        ...


@runtime_checkable
class Windows(Protocol):
    """A retriever that has passages in an order: the corpus', or that of a page.

    One that may lack it, because it wraps another or because of its settings, says so in a property ``opens``.
    """

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """Return a found passage between its neighbours, in their order, with scores of 0; empty if it is not there.

        Raises ``RetrieverError``.
        """
        ...


def windows_of(retriever: Retriever) -> Windows | None:
    """Return the retriever as one that has windows; None if it has none."""
    return retriever if isinstance(retriever, Windows) and getattr(retriever, "opens", True) else None


def search_each(retriever: Retriever, queries: Sequence[str], k: int) -> list[list[Passage] | RetrieverError]:
    """Return each query's passages, or why it has none. One failing query does not affect the others.

    If the number of results differs from the number of queries, all of them failed.
    """
    found: Sequence[list[Passage] | RetrieverError]
    try:
        found = retriever.search(queries, k)
    except RetrieverError as error:
        if error.found is None:
            if len(queries) == 1:
                return [error]
            return [entry for query in queries for entry in search_each(retriever, [query], k)]
        found = error.found
    if len(found) != len(queries):
        return [RetrieverError(f"{len(found)} answers to {len(queries)} queries")] * len(queries)
    return list(found)


def whole(found: Sequence[list[Passage] | RetrieverError]) -> list[list[Passage]]:
    """Return the passages per query; raise ``RetrieverError`` if an entry is an error."""
    failed = [entry for entry in found if isinstance(entry, RetrieverError)]
    if failed:
        raise RetrieverError(str(failed[0]), found)
    return [entry for entry in found if not isinstance(entry, RetrieverError)]


@dataclass(frozen=True)
class TrainingBatch:
    """Trajectories of one update, as aligned lists over B trajectories.

    ``token_ids[b]`` (T_b,), ``policy_mask[b]`` (T_b,) true on policy tokens, and per policy token (P_b,):
    ``advantages``, ``old_logprobs`` (the engine's at sampling). ``dropped``: numbers of trajectories that need no pass:
    their advantages are 0, and they count only in the loss's mean.
    """

    token_ids: list[list[int]]
    policy_mask: list[list[bool]]
    advantages: list[list[float]]
    old_logprobs: list[list[float]]
    trajectory_ids: list[str] = field(default_factory=list)
    dropped: frozenset[int] = frozenset()


@runtime_checkable
class Trainer(Protocol):
    """Updates a policy from batches. All ranks are called alike. ``iteration``: updates done."""

    iteration: int

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """Return log-probabilities (P_b,) of the policy tokens under the current weights, without gradient."""
        ...

    def reference_logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """Return the same under the frozen reference policy (the segment's KL anchor)."""
        ...

    def update(self, batch: TrainingBatch) -> Mapping[str, float]:
        """Train one epoch over the batch in minibatches; return the means of the metrics."""
        ...

    def export_weights(self) -> Mapping[str, Any]:
        """Return the policy's tensors by their Hugging Face names, for an engine in the same process. The next update
        may change them in place."""
        ...

    def save_policy(self, policy: Path, *, step: int, parent: str) -> str:
        """Write only a policy folder (safetensors, tokenizer, manifest); return the sha256 of its weights."""
        ...

    def save(self, policy: Path, *, step: int, parent: str, trainer_state: Path | None = None) -> None:
        """Write a policy folder as ``save_policy`` does, and trainer state; None: in ``trainer_state`` beside it."""
        ...

    def load(self, policy: Path, trainer_state: Path | None = None) -> None:
        """Load weights and trainer state from a ``save``."""
        ...
