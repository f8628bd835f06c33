"""``rollout``: how a trajectory is made, and by which engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Point
from r1_searcher.params.base import Count, Section, Share
from r1_searcher.params.chosen import Extensible
from r1_searcher.points import ENGINES, PROMPTS, TOOLS

if TYPE_CHECKING:
    from r1_searcher.types.protocols import EngineKind

_KIND = ("in_memory", "tensor_parallel", "own_process", "fixed_cache", "packages", "sleeps", "load")  # of an EngineKind


class Vllm(Section):
    """The vLLM engine; its settings affect only float rounding of what is sampled."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)]  # of a GPU: weights and cache
    cpu_cache_gb: Annotated[float, Field(gt=0)]  # the cache on a CPU, in 2^30 bytes
    max_num_seqs: Count  # trajectories sampled at once; more wait
    max_num_batched_tokens: Count  # per step, prefill and decode
    enforce_eager: bool  # no compilation, no CUDA graphs: starts sooner, runs slower on a GPU
    sleep: bool  # release the GPU while the trainer uses it

    @model_validator(mode="after")
    def _a_token_a_trajectory(self) -> Vllm:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError("max_num_batched_tokens must be at least max_num_seqs: each samples one token per step")
        return self


class Rollout(Extensible):
    """How a trajectory is made, in training and, greedily, in evaluation."""

    points: ClassVar[Mapping[str, Point]] = {"engine": ENGINES, "prompt": PROMPTS, "tools": TOOLS}
    section: ClassVar[str] = "rollout"

    engine: str  # r1_searcher/rollout/engine_kinds, or one of your own
    vllm: Vllm  # for the engine vllm
    prompt: str  # a name in r1_searcher/rollout/prompts, one of your own, or a path to a file with {question}
    tools: tuple[str, ...] = ("search",)  # what the policy may call; the baselines only search
    passages: Literal["text", "title_and_text"]  # what is shown of a passage
    k: Count
    max_searches: Count
    max_turn_tokens: Count
    max_total_tokens: Count
    max_passage_tokens: Count  # longer passages are cut
    max_documents_tokens: Annotated[int, Field(ge=0)]  # all passages of a search; 0: no limit
    max_batch: Count  # trajectories sampled together
    max_error_share: Share  # share of trajectories that may be lost to the retriever before an iteration stops
    dtype: Literal["float32", "bfloat16"]
    temperature: float
    top_p: float

    @property
    def kind(self) -> EngineKind:
        """What is known of the engine before one is loaded. Raises ``PipelineError`` if it is not an ``EngineKind``."""
        made: EngineKind = self.chosen(ENGINES)()
        if not all(hasattr(made, name) for name in _KIND):
            raise PipelineError(
                f"the engine {self.engine!r} is a {type(made).__name__}, not an EngineKind",
                where=self.found("engine").place(),
                fix="register a class that inherits from r1_searcher.types.protocols.EngineKind",
            )
        return made

    @model_validator(mode="after")
    def _search_is_a_tool(self) -> Rollout:
        if "search" not in self.tools or len(set(self.tools)) < len(self.tools):
            raise ValueError(f"tools: each one once, and search among them; got {', '.join(self.tools) or 'none'}")
        return self

    @model_validator(mode="after")
    def _room_for_every_passage(self) -> Rollout:
        if 0 < self.max_documents_tokens < self.k:
            raise ValueError(
                f"max_documents_tokens = {self.max_documents_tokens} leaves no token for each of k = {self.k}"
            )
        return self
