"""The built-in trainers: on DeepSpeed, and on torch alone."""

from __future__ import annotations

import os
from typing import Any

import torch

from r1_searcher.errors import PipelineError
from r1_searcher.update import distributed
from r1_searcher.update.policy import TokenPolicy
from r1_searcher.update.torch_engine import TorchEngine
from r1_searcher.update.trainer import PolicyTrainer


class DeepSpeedTrainer(PolicyTrainer):
    """On DeepSpeed: any number of ranks, ZeRO, offloading."""

    def _start(self) -> tuple[int, int, torch.device]:
        return distributed.start()

    def _initialize(self, module: TokenPolicy) -> Any:
        return distributed.initialize(module, self.settings, self.learning_rate)


class TorchTrainer(PolicyTrainer):
    """On torch alone: one process, nothing divided, nothing offloaded."""

    def _start(self) -> tuple[int, int, torch.device]:
        refused = {
            "workers.ranks": distributed.launched() and os.environ["WORLD_SIZE"] != "1" and os.environ["WORLD_SIZE"],
            "update.zero_stage": self.settings.zero_stage,
            "update.offload": self.settings.offload != "none" and self.settings.offload,
        }
        for where, value in refused.items():
            if value:
                raise PipelineError(
                    f"is {value}, but update.trainer: torch trains in one process and divides nothing",
                    where=where,
                    fix="update.trainer: deepspeed",
                )
        return 0, 1, distributed.own_device()

    def _initialize(self, module: TokenPolicy) -> Any:
        return TorchEngine(module, self.settings, self.learning_rate)
