"""The three protocols: all that rollout and update know of the world.

Engines generate, retrievers find, trainers learn. Each has more than one implementation; whoever
uses them imports only this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True)
class Sampling:
    """How the policy's tokens are drawn. ``temperature`` 0 is greedy."""

    temperature: float
    top_p: float
    max_turn_tokens: int  # new tokens a turn
    max_total_tokens: int  # prompt, policy and document tokens of a trajectory


@dataclass(frozen=True)
class Turn:
    """One turn of one trajectory, as the engine sampled it: tokens (N,) and their log-probabilities (N,).

    ``logprobs`` are under the temperature-scaled policy before top-p. ``stop`` is the stop string
    that ended the turn, or one of the grammar's finish reasons: end_of_text, turn_limit, length_limit.
    """

    trajectory: int
    token_ids: list[int]
    logprobs: list[float]
    stop: str


@runtime_checkable
class Engine(Protocol):
    """Tokens in, tokens and log-probabilities out. A trajectory is added once, extended with
    documents, and leaves the batch when it is released; none waits for another's search.

    ``overlaps``: an ended turn may be extended or released at any later time, while ``step`` goes on with the
    other trajectories. Where it is False, every ended turn is answered before the next ``step``.
    """

    name: str
    overlaps: bool

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special tokens added."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens kept, no clean-up of spaces."""
        ...

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        """Begin an empty batch."""
        ...

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        """Put a trajectory into the batch. Its samples depend on ``seed`` and its own tokens only."""
        ...

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        """Generate until at least one turn ends; return the ended turns. Empty: nothing is left to run, but for
        trajectories whose ended turn awaits its answer (``overlaps``).

        An engine that ``overlaps`` asks ``interrupted`` after every token, and returns where it says so, maybe
        with no turn: something was found that a trajectory waits for. Any other engine pays it no attention.
        """
        ...

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        """Append document tokens to a trajectory whose turn ended, and let it go on."""
        ...

    def release(self, trajectory: int) -> None:
        """Take a trajectory whose turn ended out of the batch."""
        ...

    def load_weights(self, policy: Path) -> None:
        """Take the weights of a policy folder of the same architecture, without a restart.

        To be called between batches. Raises ``PipelineError`` where the folder's weights do not fit. That the
        weights arrived is for ``r1_searcher.rollout.sync.check_sync`` to say.
        """
        ...

    def score(self, token_ids: Sequence[Sequence[int]], *, temperature: float) -> list[list[float]]:
        """Log-probability of every token of B sequences given those before it, lists (T_b,), the first entry 0.

        Under the policy scaled by ``temperature`` (0: unscaled), before top-p, as in ``Turn``. To be called
        between batches.
        """
        ...

    def sleep(self) -> None:
        """Give back what can be given back of the accelerator's memory, between batches. Nothing where there is
        no accelerator, or no memory that can be had back without a restart."""
        ...

    def wake(self) -> None:
        """Take the memory again. Weights may have to be loaded and the engine is otherwise as it was."""
        ...


@runtime_checkable
class InMemoryEngine(Engine, Protocol):
    """An engine that takes weights from a trainer in the same process (``EngineKind.in_memory``)."""

    def load_state(self, weights: Mapping[str, Any]) -> None:
        """Copy tensors by the names of the model's own parameters, all of which are there."""
        ...


class EngineKind:
    """What is registered as an engine: how one is loaded, and what of it must be known before one is there.

    Attributes:
        in_memory: its engine is an ``InMemoryEngine``.
        tensor_parallel: it can be spread over several GPUs.
        own_process: it takes memory in a process of its own, which the trainer's must leave to it.
        fixed_cache: it takes all of its memory when it starts (``rollout.vllm``); else its cache grows with
            ``rollout.max_batch``.
        packages: whose versions say how it rounds, beside torch and transformers; they are in the store's keys.
    """

    in_memory: ClassVar[bool] = False
    tensor_parallel: ClassVar[bool] = False
    own_process: ClassVar[bool] = False
    fixed_cache: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()

    def sleeps(self, rollout: Any) -> bool:
        """Whether it gives a GPU back while the trainer works. ``rollout``: ``r1_searcher.params.Rollout``."""
        return False

    def load(self, policy: Path | str, tokenizer: Any, rollout: Any, *, tensor_parallel: int) -> Engine:
        """An engine with the weights of a policy folder or hub name. ``tokenizer``: the policy's; ``rollout``:
        ``r1_searcher.params.Rollout``; ``tensor_parallel``: over how many GPUs."""
        raise NotImplementedError


@dataclass(frozen=True)
class Passage:
    """A found passage; ``score`` is the retriever's, higher is better."""

    passage_id: str
    title: str
    text: str
    score: float


class ToolError(Exception):
    """A tool's call failed. The trajectory is marked and left out of training."""


class RetrieverError(ToolError):
    """A search failed after its retries. The trajectory is marked and left out of training.

    ``found``: where only some of a call's queries failed, an entry a query: its passages, or its own error.
    """

    def __init__(self, what: str, found: Sequence[list[Passage] | RetrieverError] | None = None) -> None:
        super().__init__(what)
        self.found = found


@runtime_checkable
class Retriever(Protocol):
    """Queries in, passages out."""

    fingerprint: str  # of what is searched and how: what a search result depends on

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """The best ``k`` passages a query, best first; fewer where fewer match, none where nothing does.
        Raises ``RetrieverError``."""
        ...


@runtime_checkable
class Windows(Protocol):
    """A retriever that has the passages in the corpus' order."""

    def around(self, passage_id: str, before: int, after: int) -> list[Passage]:
        """A passage between its neighbours, in the corpus' order, with scores of 0; none if no passage has this id."""
        ...


def search_each(retriever: Retriever, queries: Sequence[str], k: int) -> list[list[Passage] | RetrieverError]:
    """For each query its passages, or why it has none. One bad query does not spoil its neighbours' searches.

    Answers to more or fewer queries than were asked cannot be told apart: then all of them failed.
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
    """What ``search`` returns, from an entry a query; raises where one of them failed."""
    failed = [entry for entry in found if isinstance(entry, RetrieverError)]
    if failed:
        raise RetrieverError(str(failed[0]), found)
    return [entry for entry in found if not isinstance(entry, RetrieverError)]


@dataclass(frozen=True)
class TrainingBatch:
    """Trajectories of one update, aligned lists over B trajectories.

    ``token_ids[b]`` (T_b,), ``policy_mask[b]`` (T_b,) true on policy tokens, and per policy token
    (P_b,): ``advantages``, ``old_logprobs`` (the engine's, when it sampled). ``dropped``: trajectories, by number, that
    need no pass: their advantages are 0, and they only count where the loss is averaged.
    """

    token_ids: list[list[int]]
    policy_mask: list[list[bool]]
    advantages: list[list[float]]
    old_logprobs: list[list[float]]
    trajectory_ids: list[str] = field(default_factory=list)
    dropped: frozenset[int] = frozenset()


@runtime_checkable
class Trainer(Protocol):
    """Batches in, metrics out; save, load. Of several ranks all are called alike. ``iteration``: updates done."""

    iteration: int

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """Log-probabilities (P_b,) of the policy tokens under the present weights, without gradient."""
        ...

    def reference_logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """The same under the frozen reference policy (the segment's KL anchor)."""
        ...

    def update(self, batch: TrainingBatch) -> Mapping[str, float]:
        """One epoch over the batch in minibatches; returns the means of the step's metrics."""
        ...

    def export_weights(self) -> Mapping[str, Any]:
        """The policy's tensors by their Hugging Face names, for an engine in the same process. The next update may
        change them in place."""
        ...

    def save_policy(self, policy: Path, *, step: int, parent: str) -> str:
        """Write a policy folder (safetensors, tokenizer, manifest) alone; returns the sha256 of its weights."""
        ...

    def save(self, policy: Path, *, step: int, parent: str, trainer_state: Path | None = None) -> None:
        """Write a policy folder as ``save_policy`` does, and trainer state; None: in ``trainer_state`` beside it."""
        ...

    def load(self, policy: Path, trainer_state: Path | None = None) -> None:
        """Take up weights and trainer state where a ``save`` left them."""
        ...
