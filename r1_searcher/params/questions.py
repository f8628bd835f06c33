"""``questions``, ``audit`` and ``difficulty``: what is asked, and what is known of it before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from pydantic import Field, model_validator

from r1_searcher.extensions import Point
from r1_searcher.names import Name, PathText
from r1_searcher.params.base import Count, Section, Share
from r1_searcher.params.chosen import Extensible
from r1_searcher.points import ANSWER_METRICS, QUESTION_SOURCES


class QuestionCounts(Section):
    """How many questions a synthetic world gets, by split."""

    train: Count
    validation: Count
    held_out: Count
    held_out_kind: Count
    comparison: Count


QuestionColumn = Literal[
    "question", "answers", "question_id", "dataset", "kind", "supporting_titles", "difficulty", "num_hops"
]


class Questions(Extensible):
    """``files`` maps a split (train, validation, or a benchmark's name) to the user's file, folder or pattern, or a
    list of these. ``columns``: our names → the files', for all splits, or per split."""

    points: ClassVar[Mapping[str, Point]] = {"source": QUESTION_SOURCES}
    section: ClassVar[str] = "questions"

    source: str  # a file of r1_searcher/questions/sources, or the user's own
    world: QuestionCounts
    files: dict[Name, str | list[str]] = Field(default_factory=dict)
    columns: dict[Name, str | int | dict[QuestionColumn, str | int]] = Field(default_factory=dict)
    on_bad_row: Literal["stop", "skip"] = "stop"  # a row that is broken or of a wrong type
    on_no_answer: Literal["skip", "stop"] = "skip"  # a question without a gold answer
    # Applies to training questions whose prompt leaves no room in rollout.max_total_tokens.
    too_long: Literal["stop", "leave_out"] = "stop"

    def columns_of(self, split: str) -> dict[str, str | int]:
        """Return the column mapping of a split's files."""
        own = self.columns.get(split)
        if isinstance(own, dict):
            return {str(name): path for name, path in own.items()}
        return {name: path for name, path in self.columns.items() if not isinstance(path, dict)}

    @model_validator(mode="after")
    def _columns_known(self) -> Questions:
        for name, path in self.columns.items():
            if isinstance(path, dict):
                if name not in self.files:
                    raise ValueError(f"columns.{name} is a mapping, but questions.files has no split {name}")
            elif name not in get_args(QuestionColumn):
                raise ValueError(f"columns.{name}: unknown; known: {', '.join(get_args(QuestionColumn))}")
        return self


class Audit(Section):
    """Limits of the audit before training: leakage into the evaluation, and answerable questions."""

    ngram: Count  # words per n-gram
    ngram_share: Share  # share of a question's n-grams in training from which it counts as overlapping
    questions: Count  # searched per split at most, evenly spaced
    max_overlap: Share  # share of a split's questions that training may ask too (same words)
    # share of a split's questions that searches must be able to answer, if supporting titles are known
    min_coverage: Share
    on_fail: Literal["warn", "stop"]


Level = Literal["easy", "medium", "difficult"]


class Labelled(Section):
    """A question file, and the policy folder whose rollouts determine each question's difficulty."""

    policy: PathText
    questions: PathText


class Mix(Section):
    """A training mix: numbers of questions by dataset and difficulty, from a labelled file or a folder of them."""

    questions: PathText
    counts: dict[str, dict[Level, Count]]  # dataset → difficulty → questions


class Difficulty(Extensible):
    """How a question's difficulty is determined (paper section 4.1: rollouts needed for one right answer)."""

    points: ClassVar = {"metric": ANSWER_METRICS}
    section: ClassVar = "difficulty"

    samples: Count  # rollouts per question
    metric: str  # an answer metric: an answer is right if it is at least 1
    easy_below: Count  # fewer rollouts needed than this: easy
    medium_up_to: Count  # at most this: medium; more: difficult
    questions_a_chunk: Count  # questions whose counts are stored together; what a kill can cost
    label: dict[Name, Labelled] = Field(default_factory=dict)  # name → contents of data/difficulty/NAME.parquet
    mixes: dict[Name, Mix] = Field(default_factory=dict)  # name → contents of data/mixes/NAME.parquet

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Difficulty:
        if self.easy_below > self.medium_up_to:
            raise ValueError(f"easy_below is {self.easy_below}, above medium_up_to, {self.medium_up_to}")
        if self.samples < self.medium_up_to:
            raise ValueError(
                f"samples is {self.samples}, and too few to tell medium (up to {self.medium_up_to}) from difficult"
            )
        return self
