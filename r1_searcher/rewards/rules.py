"""The chosen reward set and answer metric, ready to score; errors in a user's own become one line.

The names are those of ``REWARD_SETS`` and ``ANSWER_METRICS``.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import RAISED, Extension, own_parameters, shipped
from r1_searcher.points import ANSWER_METRICS, REWARD_SETS
from r1_searcher.rewards.case import STAGES, Case, Score, stages_of
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Transcript
from r1_searcher.transcripts.scripts import PAPER, Scripts

if TYPE_CHECKING:  # scoring transcript files need not import it
    from pydantic import BaseModel

    from r1_searcher.params import Reward

COMPONENTS = ("retrieval", "format", "answer")  # every set has them; those that it does not return are 0
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Metric:
    """An answer metric with its own parameters."""

    found: Extension
    parameters: BaseModel | None = None

    def __call__(self, prediction: str | None, golds: Sequence[str], row: str | None = None) -> float:
        """Return the metric of a prediction (None: no answer). ``row`` names the transcript in a message.

        Raises ``PipelineError`` if the metric raises, or does not return a finite number.
        """
        given = () if self.parameters is None else (self.parameters,)
        value = _called(self.found, "answer metric", row, prediction, golds, *given)
        return _number(value, self.found, "the answer metric {name!r} returned {value}", row)


@dataclass(frozen=True)
class Rules:
    """A reward set and an answer metric, with their own parameters, and the rule on scripts."""

    reward_set: Extension
    metric: Metric
    parameters: BaseModel | None = None
    scripts: Scripts = PAPER  # that transcripts may be written in

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that the set has."""
        return stages_of(self.reward_set.value).known

    def check_stage(self, stage: int) -> None:
        """Raise ``PipelineError`` if the set lacks this stage."""
        found, name = stages_of(self.reward_set.value), self.reward_set.registered.name
        if stage in found.known:
            return
        if stage in STAGES:
            raise PipelineError(f"the reward set {name} has no stage {stage}: {found.why}", fix=found.fix)
        known = ", ".join(f"{name} stage {number}" for number in found.known)
        raise PipelineError(f"no reward set {name!r} with a stage {stage}", fix=f"known: {known}")

    def score(
        self,
        transcript: Transcript,
        golds: str | Sequence[str],
        stage: int,
        *,
        num_searches: int | None = None,
        question: str = "",
        calls: Mapping[str, int] | None = None,
        row: str | None = None,
    ) -> Score:
        """Return the reward of one transcript: ``COMPONENTS``, then the set's further components in its order.

        ``num_searches``: successful searches; None, for a bare transcript, counts the closed queries followed by a
        closed document block. ``calls``: successful calls of each tool beside search. ``row`` names the transcript in a
        message. Raises ``PipelineError`` if the set lacks this stage, and if set or metric raise or return no finite
        numbers.
        """
        self.check_stage(stage)
        if num_searches is None:
            num_searches = grammar.written_searches(transcript.text)
        listed = [golds] if isinstance(golds, str) else golds
        transcript = replace(transcript, scripts=self.scripts)

        given = () if self.parameters is None else (self.parameters,)
        case = Case(
            transcript,
            listed,
            stage,
            num_searches,
            question,
            lambda prediction: self.metric(prediction, listed, row),
            calls or {},
        )
        return self._checked(_called(self.reward_set, "reward set", row, case, *given), row)

    def _checked(self, returned: object, row: str | None) -> Score:
        components = returned.components if isinstance(returned, Score) else returned
        violations = returned.violations if isinstance(returned, Score) else ()
        name = self.reward_set.registered.name
        if not isinstance(components, Mapping) or not components:
            what = (
                "no component" if isinstance(components, Mapping) else f"{_shown(components)}, not components by name"
            )
            raise _fault(f"the reward set {name!r} returned {what}", self.reward_set, row)
        if not isinstance(violations, tuple) or not all(isinstance(rule, str) for rule in violations):
            what = f"violations that are not a tuple of names: {_shown(violations)}"
            raise _fault(f"the reward set {name!r} returned {what}", self.reward_set, row)
        found = dict.fromkeys(COMPONENTS, 0.0)
        for component, value in components.items():
            if not isinstance(component, str) or _NAME.fullmatch(component) is None:
                what = f"a component called {_shown(component)} (letters, digits and _ make a column's name)"
                raise _fault(f"the reward set {name!r} returned {what}", self.reward_set, row)
            what = f"the reward set {{name!r}} returned {{value}} as component {component!r}"
            found[component] = _number(value, self.reward_set, what, row)
        return Score(found, violations)


def rules_of(
    reward_set: str,
    answer_metric: str,
    *,
    extensions: Sequence[str] = (),
    own: Mapping[str, Any] | None = None,
    scripts: Scripts = PAPER,
) -> Rules:
    """Return the rules of two names. ``extensions``: the user's files; ``own``: parameters in params.yaml by name;
    ``scripts``: those that transcripts may be written in."""
    chosen = REWARD_SETS.find(reward_set, extensions)
    parameters = own_parameters(chosen, (own or {}).get(reward_set), where=f"reward.{reward_set}")
    return Rules(chosen, metric_of(answer_metric, extensions=extensions, own=own), parameters, scripts)


def rules_from(reward: Reward) -> Rules:
    """Return the rules of the section ``reward`` of the parameters."""
    own, scripts = reward.own, reward.scripts
    return rules_of(reward.set, reward.answer_metric, extensions=reward.extensions, own=own, scripts=scripts)


def metric_of(
    name: str, *, extensions: Sequence[str] = (), own: Mapping[str, Any] | None = None, section: str = "reward"
) -> Metric:
    """Return the answer metric of a name; ``section`` of params.yaml chooses it and holds its parameters."""
    found = ANSWER_METRICS.find(name, extensions)
    return Metric(found, own_parameters(found, (own or {}).get(name), where=f"{section}.{name}"))


def score(
    transcript: Transcript,
    golds: str | Sequence[str],
    reward_set: str,
    stage: int,
    answer_metric: str,
    *,
    num_searches: int | None = None,
) -> Score:
    """Return the reward of one transcript, by the names of a set and a metric (``Rules.score``)."""
    return rules_of(reward_set, answer_metric).score(transcript, golds, stage, num_searches=num_searches)


def check_same_components(rules: Rules, first: Score, other: Score, row: str) -> None:
    """Raise ``PipelineError`` if two transcripts of a table have different components: a column would have holes."""
    name = rules.reward_set.registered.name
    if missing := [component for component in first.components if component not in other.components]:
        what = f"returned no component {missing[0]!r}, which it returned for rows before"
    elif more := [component for component in other.components if component not in first.components]:
        what = f"returned a component {more[0]!r}, which it did not return for rows before"
    else:
        return
    fix = "return every component for every row; 0.0 if it does not apply"
    raise _fault(f"the reward set {name!r} {what}", rules.reward_set, row, fix=fix)


def _called(found: Extension, noun: str, row: str | None, *arguments: object) -> Any:
    try:
        return found.value(*arguments)
    except PipelineError:
        raise
    except RAISED as error:  # a user's code may raise anything; in ours it is a bug and keeps its traceback
        if shipped(found.file):
            raise
        said = f"the {noun} {found.registered.name!r} raised {type(error).__name__}: {error}"
        raise _fault(said, found, row, error=error) from error


def _number(value: object, found: Extension, said: str, row: str | None) -> float:
    try:
        number = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:
        number = math.inf
    if math.isfinite(number):
        return number
    what = said.format(name=found.registered.name, value=_shown(value))
    raise _fault(f"{what}: a finite number is needed", found, row)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _fault(
    what: str, found: Extension, row: str | None, *, error: BaseException | None = None, fix: str | None = None
) -> PipelineError:
    place = found.place(error)
    return PipelineError(what, where=place if row is None else f"{place}, {row}", fix=fix)
