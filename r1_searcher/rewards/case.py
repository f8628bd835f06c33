"""The input and output of a reward set.

@reward_set("brevity")
def brevity(case: Case) -> dict[str, float]:
    return {"answer": case.answer_score(case.prediction), "brevity": -0.01 * len(case.policy_text.split())}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Transcript

STAGES = (1, 2)  # of the recipe
_STAGES = "__r1_searcher_stages__"
_F = TypeVar("_F", bound=Callable[..., object])


@dataclass(frozen=True)
class Score:
    """The reward of one transcript: the sum of its named ``components``. ``violations`` names the broken rules."""

    components: Mapping[str, float]
    violations: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Return the reward."""
        total = 0.0
        for component in self.components.values():  # one by one: sum() rounds differently in later Pythons
            total += component
        return total


@dataclass(frozen=True)
class Case:
    """What a reward set may look at.

    Attributes:
        transcript: what the policy wrote and what was inserted, by provenance.
        golds: the gold answers, one or more.
        stage: of the recipe, 1 or 2.
        num_searches: the number of successful searches.
        question: empty for a bare transcript without one.
        calls: successful calls of each tool beside search.
        answer_score: the chosen answer metric of a prediction (None: no answer), in [0, 1] for the built-in ones.
    """

    transcript: Transcript
    golds: Sequence[str]
    stage: int
    num_searches: int
    question: str
    answer_score: Callable[[str | None], float]
    calls: Mapping[str, int] = field(default_factory=dict)

    @property
    def policy_text(self) -> str:
        """Return the policy's text without the documents."""
        return self.transcript.policy_text

    @property
    def prediction(self) -> str | None:
        """The policy's answer; None if it gave none."""
        return grammar.extract_answer(self.transcript.policy_text)


@dataclass(frozen=True)
class Stages:
    """The stages that a reward set has, and why it lacks the others."""

    known: tuple[int, ...] = STAGES
    why: str = ""
    fix: str | None = None


def only_stages(*stages: int, why: str, fix: str | None = None) -> Callable[[_F], _F]:
    """Decorate a function below ``@reward_set``: it has only these stages. ``why`` and ``fix`` are for the error
    message."""

    def mark(function: _F) -> _F:
        setattr(function, _STAGES, Stages(stages, why, fix))
        return function

    return mark


def stages_of(function: object) -> Stages:
    """Return the stages of a reward set: both unless declared otherwise."""
    found = getattr(function, _STAGES, None)
    return found if isinstance(found, Stages) else Stages()
