"""``questions``, ``audit`` and ``difficulty``: what is asked, and what is known of it before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from r1_searcher.extensions import Point
from r1_searcher.names import Name, PathText
from r1_searcher.params.base import Count, Section, Share
from r1_searcher.params.chosen import Extensible
from r1_searcher.points import ANSWER_METRICS, QUESTION_SOURCES


class QuestionCounts(Section):
    """How many questions a synthetic world is asked, by split."""

    train: Count
    validation: Count
    held_out: Count
    held_out_kind: Count
    comparison: Count


class Questions(Extensible):
    """``files`` maps a split (train, validation, or a benchmark's name) to a file of the user's."""

    points: ClassVar[Mapping[str, Point]] = {"source": QUESTION_SOURCES}
    section: ClassVar[str] = "questions"

    source: str  # a file of r1_searcher/questions/sources, or a name of the user's own
    world: QuestionCounts
    files: dict[Name, str] = Field(default_factory=dict)
    # Of questions that training would ask and whose prompt leaves no room in rollout.max_total_tokens.
    too_long: Literal["stop", "leave_out"] = "stop"


class Audit(Section):
    """What is held against training before it begins: leakage into the evaluation, and answerable questions."""

    ngram: Count  # words of an n-gram
    ngram_share: Share  # of a question's n-grams that training must have for the question to count as overlapping
    questions: Count  # at most so many a split are searched for, evenly spaced
    max_overlap: Share  # of a split's questions that training may ask too (same words)
    min_coverage: Share  # of a split's questions that searches can answer, judged where supporting titles are known
    on_fail: Literal["warn", "stop"]


Level = Literal["easy", "medium", "difficult"]


class Labelled(Section):
    """A question file and the policy folder whose rollouts say how difficult each question is."""

    policy: PathText
    questions: PathText


class Mix(Section):
    """A training mix: how many questions of a dataset and a difficulty, from a labelled file or a folder of them."""

    questions: PathText
    counts: dict[str, dict[Level, Count]]  # dataset → difficulty → questions


class Difficulty(Extensible):
    """How a question's difficulty is found (paper section 4.1: rollouts needed for one right answer)."""

    points: ClassVar = {"metric": ANSWER_METRICS}
    section: ClassVar = "difficulty"

    samples: Count  # rollouts a question
    metric: str  # an answer metric: an answer is right if it is 1 or more
    easy_below: Count  # needed rollouts below this: easy
    medium_up_to: Count  # up to this: medium; above: difficult
    questions_a_chunk: Count  # questions whose counts are kept together; what a kill can cost
    label: dict[Name, Labelled] = Field(default_factory=dict)  # name → what becomes data/difficulty/NAME.parquet
    mixes: dict[Name, Mix] = Field(default_factory=dict)  # name → what becomes data/mixes/NAME.parquet

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Difficulty:
        if self.easy_below > self.medium_up_to:
            raise ValueError(f"easy_below is {self.easy_below}, above medium_up_to, {self.medium_up_to}")
        if self.samples < self.medium_up_to:
            raise ValueError(
                f"samples is {self.samples}, and too few to tell medium (up to {self.medium_up_to}) from difficult"
            )
        return self
