"""The named reward sets: what a transcript earns, and which rules it breaks.

``paper`` is the paper's reward design (stage 1: retrieval and format, stage 2: answer and format) and
knows by provenance what the policy wrote. ``released-base`` and ``released-instruct`` are what the release's
reward servers compute: they count strings over the whole transcript, documents included, which is a
known weakness of theirs and is kept, so that their figures can be reproduced. The release has no
stage 1 for base models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from r1_searcher.errors import PipelineError
from r1_searcher.rewards import metrics
from r1_searcher.rewards.metrics import AnswerMetric
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Transcript

RewardSet = Literal["paper", "released-base", "released-instruct"]
REWARD_SETS: tuple[RewardSet, ...] = ("paper", "released-base", "released-instruct")

MAX_ANSWER_WORDS = 10  # released-base: a longer answer is a violation
# The release appends its tokenizer's end token before it scores. Seen only where the last <answer>
# is not closed: the token is then part of the answer. Ours is that of Qwen-2.5's base models.
APPENDED_END = "<|endoftext|>"


@dataclass(frozen=True)
class Components:
    """The parts of a reward; those that a set lacks are 0."""

    retrieval: float = 0.0
    format: float = 0.0
    answer: float = 0.0


@dataclass(frozen=True)
class Score:
    """What one transcript earns: ``total`` is the sum of the components; ``violations`` names the broken rules."""

    components: Components
    violations: tuple[str, ...]

    @property
    def total(self) -> float:
        """The reward."""
        return self.components.retrieval + self.components.format + self.components.answer


@dataclass(frozen=True)
class Case:
    """What a rule may look at. ``num_searches`` are the searches that were carried out."""

    transcript: Transcript
    golds: Sequence[str]
    answer_metric: AnswerMetric
    num_searches: int


def score(
    transcript: Transcript,
    golds: str | Sequence[str],
    reward_set: RewardSet,
    stage: int,
    answer_metric: AnswerMetric,
    *,
    num_searches: int | None = None,
) -> Score:
    """The reward of one transcript.

    ``answer_metric`` is what stage 2 rewards (the release: f1); stage 1 has no use for it.
    ``num_searches`` is how many searches were carried out; None, for a bare transcript, counts the
    closed queries that have a closed document block after them. Raises ``PipelineError`` for a set
    without this stage.
    """
    rule = rules_of(reward_set, stage)
    if num_searches is None:
        num_searches = grammar.written_searches(transcript.text)
    listed = [golds] if isinstance(golds, str) else golds
    return rule(Case(transcript, listed, answer_metric, num_searches))


def rules_of(reward_set: RewardSet, stage: int) -> Callable[[Case], Score]:
    """The function that scores a stage of a set; a ``PipelineError`` where the set has no such stage."""
    try:
        return _RULES[reward_set, stage]
    except KeyError:
        pass
    if reward_set == "released-base" and stage == 1:
        raise PipelineError(
            "the reward set released-base has no stage 1: the release ships no stage-1 rewards for base models",
            fix="use `paper`, which has both stages, or `released-instruct`",
        )
    known = ", ".join(f"{name} stage {number}" for name, number in _RULES)
    raise PipelineError(f"no reward set {reward_set!r} with a stage {stage}", fix=f"known: {known}")


def _paper_stage_1(case: Case) -> Score:
    """Searching and format, never the answer."""
    broken = grammar.format_violations(case.transcript)
    searched = case.num_searches > 0
    parts = Components(retrieval=0.5 if searched else 0.0, format=0.0 if broken else 0.5)
    return Score(parts, broken if searched else (*broken, "no_search"))


def _paper_stage_2(case: Case) -> Score:
    """The answer, and a penalty of 2 on a wrong format."""
    broken = grammar.format_violations(case.transcript)
    prediction = grammar.extract_answer(case.transcript.policy_text)
    answer = metrics.answer_metric(case.answer_metric)(prediction, case.golds)
    return Score(Components(format=-2.0 if broken else 0.0, answer=answer), broken)


def _instruct_stage_1(case: Case) -> Score:
    """Cover-EM as plus or minus 1, half a point for balanced searching, half a point for the tags."""
    text = _released_text(case.transcript)
    prediction = _released_prediction(text)
    retrieval, form = _retrieval_violations(text), grammar.tag_count_violations(text)
    parts = Components(
        retrieval=0.0 if retrieval else 0.5,
        format=0.0 if form else 0.5,
        answer=1.0 if metrics.cover_em(prediction, case.golds) else -1.0,
    )
    return Score(parts, (*retrieval, *form))


def _instruct_stage_2(case: Case) -> Score:
    """The answer, and 1 off, once, for any broken rule."""
    text = _released_text(case.transcript)
    broken = [*_count_violations(text), *grammar.tag_count_violations(text), *_cjk_violations(text)]
    return Score(Components(format=-1.0 if broken else 0.0, answer=_released_answer(text, case)), tuple(broken))


def _base_stage_2(case: Case) -> Score:
    """The answer, and 2 off, once, for any broken rule."""
    text = _released_text(case.transcript)
    broken = [*_count_violations(text), *grammar.tag_count_violations(text)]
    if "Assistant" in text or "assistant" in text:
        broken.append("assistant_written")
    if grammar.ANSWER in text:
        inside = _after_last_answer(text)
        if "begin_of_query" in inside or "begin_of_documents" in inside:
            broken.append("tag_in_answer")
        if len(inside.split()) > MAX_ANSWER_WORDS:
            broken.append("answer_too_long")
    broken += _cjk_violations(text)
    return Score(Components(format=-2.0 if broken else 0.0, answer=_released_answer(text, case)), tuple(broken))


_RULES: dict[tuple[str, int], Callable[[Case], Score]] = {
    ("paper", 1): _paper_stage_1,
    ("paper", 2): _paper_stage_2,
    ("released-base", 2): _base_stage_2,
    ("released-instruct", 1): _instruct_stage_1,
    ("released-instruct", 2): _instruct_stage_2,
}


def _released_text(transcript: Transcript) -> str:
    return grammar.strip_end_of_text(transcript.text) + APPENDED_END


def _after_last_answer(text: str) -> str:
    """From the last ``<answer>`` to the next ``</answer>``, or to the end where none follows."""
    return text.rpartition(grammar.ANSWER)[2].partition(grammar.END_ANSWER)[0].strip()


def _released_prediction(text: str) -> str | None:
    """The answer where both tags occur, in whatever order; else None."""
    return _after_last_answer(text) if grammar.ANSWER in text and grammar.END_ANSWER in text else None


def _released_answer(text: str, case: Case) -> float:
    return metrics.answer_metric(case.answer_metric)(_released_prediction(text), case.golds)


def _count_violations(text: str) -> list[str]:
    return ["tag_counts_differ"] if len(set(grammar.seven_counts(text))) != 1 else []


def _retrieval_violations(text: str) -> list[str]:
    return _count_violations(text) or ([] if grammar.QUERY in text else ["no_search"])


def _cjk_violations(text: str) -> list[str]:
    return ["cjk"] if grammar.has_cjk(Transcript(text).policy_text) else []
