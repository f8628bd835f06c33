"""``reward``, ``update`` and ``train``: what a policy learns from, how, and for how long."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from r1_searcher.names import Name, PathText
from r1_searcher.params.base import Count, Section, Share
from r1_searcher.params.chosen import Extensible
from r1_searcher.points import ANSWER_METRICS, ESTIMATORS, LOSSES, REWARD_SETS, TRAINERS
from r1_searcher.transcripts.scripts import PAPER, Scripts, checked


class Reward(Extensible):
    """The reward set and its answer metric, both by name (docs/recipe.md#rewards). A set's own parameters stand beside
    them, under its name."""

    points: ClassVar = {"set": REWARD_SETS, "answer_metric": ANSWER_METRICS}
    section: ClassVar = "reward"

    set: str
    answer_metric: str
    scripts: Scripts = PAPER  # that the policy may write: paper, any, or a list (docs/recipe.md#scripts)

    @field_validator("scripts", mode="before")
    @classmethod
    def _scripts_are_known(cls, given: Any) -> Scripts:
        return checked(given)


class Lora(Section):
    """Low-rank adapters (peft): only they are trained, and a policy folder contains them merged. There is no dropout:
    the policy trained is the policy that sampled."""

    rank: Annotated[int, Field(ge=0)]  # 0: none; all weights are trained
    alpha: Annotated[float, Field(gt=0)]  # an adapter is scaled by alpha / rank
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)]  # layers by name; never the output head


class Update(Extensible):
    """One policy update. The learning rate is the stage's, in ``train``."""

    points: ClassVar = {"estimator": ESTIMATORS, "loss": LOSSES, "trainer": TRAINERS}
    section: ClassVar = "update"

    trainer: str  # r1_searcher/update/trainer_kinds, or one of your own
    layout: Literal["padded", "packed"]  # packed: trajectories end to end, by flash attention if installed

    estimator: str  # r1_searcher/update/estimators, or one of your own
    loss: str  # of a policy token: r1_searcher/update/policy_losses, or one of your own
    clip: float
    kl_coefficient: Annotated[float, Field(ge=0)]
    loss_mean: Literal["trajectory", "token"]  # token: sum over tokens divided by a constant
    importance_cap: Annotated[float, Field(ge=0)]  # truncation of engine/trainer ratios; 0: no correction
    flat_groups: Literal["kept", "dropped"]  # zero-advantage groups: questions whose samples all have the same reward
    overlong: Literal["kept", "left_out"]  # truncated trajectories: those that ended at rollout.max_total_tokens
    minibatches: Count  # optimiser steps per iteration, one epoch over the rollouts
    max_tokens_a_pass: Count  # per forward and backward pass, including padding
    max_gradient_norm: float
    weight_decay: float
    betas: tuple[float, float]
    dtype: Literal["float32", "bfloat16"]
    zero_stage: Literal[0, 1, 2, 3]
    offload: Literal["none", "optimizer", "all"]  # to main memory: moments and float32 weights, or all parameters too
    gradient_checkpointing: bool
    lora: Lora
    # The mean gap between engine and trainer above which training stops; auto: by the precisions (docs/engines.md).
    max_logprob_gap: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"

    @model_validator(mode="after")
    def _can_be_offloaded(self) -> Update:
        if self.offload != "none" and self.zero_stage == 0:
            raise ValueError(
                f"offload is {self.offload}: it needs zero_stage 1, 2 or 3, which keep the optimizer apart"
            )
        if self.offload == "all" and self.zero_stage != 3:
            raise ValueError(
                "offload is all: parameters can leave the device only with zero_stage 3; or set offload: optimizer"
            )
        return self


class Collapse(Section):
    """When a run stops itself: its means stay beyond a limit for ``patience`` iterations."""

    min_format_rate: Share
    max_tokens_growth: float  # mean policy tokens relative to the segment's first iteration
    patience: Count


class TrainStage(Section):
    """Settings that differ between the recipe's two stages."""

    reward_stage: Literal[1, 2]
    learning_rate: float
    warmup_iterations: int
    questions_an_iteration: Count
    samples_a_question: Count
    evaluate_every: Count  # iterations between two validations
    evaluate_questions: Count
    checkpoint_every: Count  # iterations between two resumable checkpoints in the store
    collapse: Collapse


class TrainSegment(Section):
    """A part of training that DVC versions: ``iterations`` iterations of a stage, from the policy ``prev``."""

    stage: Literal["stage1", "stage2"]
    prev: PathText  # a policy folder
    iterations: Count
    iteration_offset: int  # iterations of this stage in earlier segments
    questions: PathText = "data/questions/train.parquet"  # stated because dvc.yaml needs it


class Train(Section):
    """The two stages and the chain of segments."""

    overlap: Literal[0, 1]  # 1: an iteration is sampled during the update before it, off-policy by that update
    stage1: TrainStage
    stage2: TrainStage
    segments: dict[Name, TrainSegment]
