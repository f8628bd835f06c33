"""All of params.yaml, and what must hold between its sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from r1_searcher.names import PathText, ProfileName
from r1_searcher.params.base import Count, Section
from r1_searcher.params.base_model import BaseModelParams
from r1_searcher.params.chosen import Extensible
from r1_searcher.params.corpus import Corpus
from r1_searcher.params.evaluate import Benchmarks, Evaluate, Judge, Regression, Report
from r1_searcher.params.index import Index
from r1_searcher.params.questions import Audit, Difficulty, Questions
from r1_searcher.params.retriever import RetrieverParams
from r1_searcher.params.rollout import Rollout
from r1_searcher.params.tracking import TrackingParams
from r1_searcher.params.train import Reward, Train, Update
from r1_searcher.params.workers import Hardware, WorkersParams


class Params(Section):
    """All of params.yaml."""

    profile: ProfileName
    extensions: list[PathText] = Field([])  # the user's own files, whose names may be chosen below
    seed: Annotated[int, Field(ge=0)]
    threads: Count
    hardware: Hardware
    workers: WorkersParams
    corpus: Corpus
    questions: Questions
    audit: Audit
    difficulty: Difficulty
    index: Index
    retriever: RetrieverParams
    base_model: BaseModelParams
    rollout: Rollout
    reward: Reward
    update: Update
    train: Train
    tracking: TrackingParams
    evaluate: Evaluate
    regression: Regression
    benchmarks: Benchmarks
    judge: Judge
    report: Report

    @model_validator(mode="before")
    @classmethod
    def _extensions_handed_on(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("extensions", []), list):
            return raw
        made = dict(raw)
        for key in extensible_sections():
            if isinstance(raw.get(key), Mapping):
                if "extensions" in raw[key]:
                    raise ValueError(f"extensions belongs at the top of params.yaml, not in {key}")
                if "own" in raw[key]:  # a field of the section's model, where a user's names have their parameters
                    raise ValueError(f"{key}.own: unknown parameter (a part that takes parameters needs another name)")
                made[key] = {**raw[key], "extensions": tuple(raw.get("extensions", []))}
        return made

    @model_validator(mode="after")
    def _workers_fit(self) -> Params:
        hardware, workers = self.hardware, self.workers
        if hardware.gpus == 1 and (workers.engines, workers.ranks) != (1, 1):
            raise ValueError("workers: one GPU is for one engine and one rank")
        if hardware.gpus > 1:
            if workers.place == "inside":
                raise ValueError("workers.place inside is one process, on one GPU; local or ray")
            if workers.reference != hardware.reference_gpus:
                raise ValueError(
                    f"workers.reference ({workers.reference}) must be hardware.reference_gpus "
                    f"({hardware.reference_gpus})"
                )
            if hardware.tensor_parallel > 1 and not self.rollout.kind.tensor_parallel:
                raise ValueError("hardware.tensor_parallel above 1 needs rollout.engine vllm, or another that can")
            if workers.ranks != hardware.trainer_gpus:
                raise ValueError(
                    f"workers.ranks ({workers.ranks}) must be hardware.trainer_gpus ({hardware.trainer_gpus})"
                )
            if workers.engines * hardware.tensor_parallel != hardware.engine_gpus:
                raise ValueError(
                    f"workers.engines ({workers.engines}) × hardware.tensor_parallel ({hardware.tensor_parallel}) "
                    f"must be hardware.engine_gpus ({hardware.engine_gpus})"
                )
        if self.train.overlap and hardware.gpus == 1:
            raise ValueError("train.overlap: on one GPU engine and trainer take turns")
        if self.train.overlap and workers.place == "inside":
            raise ValueError("train.overlap needs workers.place local or ray: inside, one process does both in turn")
        if self.train.overlap and not self.update.importance_cap:
            raise ValueError("train.overlap is off-policy: it needs update.importance_cap above 0, e.g. 2.0")
        return self


def extensible_sections() -> list[str]:
    """Return the sections that choose something by a name that may be the user's own."""
    return [
        key
        for key, field in Params.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Extensible)
    ]
