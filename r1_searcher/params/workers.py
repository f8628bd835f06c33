"""``hardware`` and ``workers``: the machine that a profile is meant for, and what runs where on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from r1_searcher.params.base import Count, Section


class Hardware(Section):
    """The machine that a profile is meant for.

    `python -m stages.plan` checks the parameters against it, and `make train PROFILE=…` starts only if it is there. It
    places no process: the parameters do.
    """

    gpus: Annotated[int, Field(ge=0)]  # of one machine; 0: none needed
    gpu_memory_gib: Annotated[float, Field(ge=0)]  # of one GPU, in 2^30 bytes, as its maker counts
    main_memory_gib: Annotated[float, Field(ge=0)]  # of the machine; 0: unknown, so offloading is not judged
    trainer_gpus: Annotated[int, Field(ge=0)]  # one rank each
    engine_gpus: Annotated[int, Field(ge=0)]  # of all engines together
    tensor_parallel: Count  # GPUs per engine
    reference_gpus: Literal[0, 1]  # for the frozen reference policy; 0: it shares the trainer's

    @model_validator(mode="after")
    def _adds_up(self) -> Hardware:
        if not self.gpus:
            return self
        if not (self.gpu_memory_gib and self.trainer_gpus and self.engine_gpus):
            raise ValueError("gpu_memory_gib, trainer_gpus and engine_gpus must be above 0 if gpus is")
        used = self.trainer_gpus + self.engine_gpus + self.reference_gpus
        if self.gpus == 1 and used != 2:
            raise ValueError("one GPU is shared: trainer_gpus 1, engine_gpus 1, reference_gpus 0")
        if self.gpus > 1 and used > self.gpus:
            raise ValueError(f"trainer, engine and reference need {used} GPUs of {self.gpus}")
        if self.engine_gpus % self.tensor_parallel:
            raise ValueError(f"engine_gpus, {self.engine_gpus}, is not a multiple of tensor_parallel")
        return self


class WorkersParams(Section):
    """Where rollout engines and trainer ranks run (docs/workers.md).

    ``inside``: one process holds both. ``local``: one process each on this machine. ``ray``: the same on a Ray cluster.
    """

    place: Literal["inside", "local", "ray"]
    engines: Count
    shards: Count  # parts of an iteration's rollouts, each sampled by one engine; part of the keys
    ranks: Count  # of the trainer
    reference: Literal[0, 1]  # 1: the frozen reference policy (update.kl_coefficient) has a process of its own
    ray_address: str  # host:port of a running cluster, or auto; empty: start one on this machine

    @model_validator(mode="after")
    def _can_be_placed(self) -> WorkersParams:
        if self.place == "inside" and (self.engines, self.ranks, self.reference) != (1, 1, 0):
            raise ValueError(
                f"engines is {self.engines}, ranks {self.ranks} and reference {self.reference}, but place inside has "
                "one process for all"
            )
        if self.shards < self.engines:
            raise ValueError(f"shards is {self.shards}: of {self.engines} engines some would have nothing to do")
        return self
