"""All of params.yaml, and what must hold between its sections."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from stages.contract.names import ProfileName
from stages.contract.params.base import Count, Section
from stages.contract.params.base_model import BaseModelParams
from stages.contract.params.corpus import Corpus
from stages.contract.params.evaluate import Benchmarks, Evaluate, Judge, Regression, Report
from stages.contract.params.index import Index
from stages.contract.params.questions import Audit, Difficulty, Questions
from stages.contract.params.retriever import Retriever
from stages.contract.params.rollout import Rollout
from stages.contract.params.train import Reward, Train, Update
from stages.contract.params.workers import Hardware, Workers


class Params(Section):
    """All of params.yaml."""

    profile: ProfileName
    seed: Annotated[int, Field(ge=0)]
    threads: Count
    hardware: Hardware
    workers: Workers
    corpus: Corpus
    questions: Questions
    audit: Audit
    difficulty: Difficulty
    index: Index
    retriever: Retriever
    base_model: BaseModelParams
    rollout: Rollout
    reward: Reward
    update: Update
    train: Train
    evaluate: Evaluate
    regression: Regression
    benchmarks: Benchmarks
    judge: Judge
    report: Report

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
            if hardware.tensor_parallel > 1 and self.rollout.engine != "vllm":
                raise ValueError("hardware.tensor_parallel above 1 needs rollout.engine vllm")
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
