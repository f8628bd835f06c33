"""The paper's reward design (section 3.3): stage 1 retrieval and format, stage 2 answer and format.

It knows by provenance what the policy wrote.
"""

from __future__ import annotations

from r1_searcher.extend import reward_set
from r1_searcher.rewards.case import Case, Score
from r1_searcher.transcripts import grammar


@reward_set("paper")
def paper(case: Case) -> Score:
    """Return a transcript's reward and the rules that it breaks."""
    broken = grammar.format_violations(case.transcript)
    return _stage_1(case, broken) if case.stage == 1 else _stage_2(case, broken)


def _stage_1(case: Case, broken: tuple[str, ...]) -> Score:
    """Reward searching and format, never the answer."""
    searched = case.num_searches > 0
    parts = {"retrieval": 0.5 if searched else 0.0, "format": 0.0 if broken else 0.5}
    return Score(parts, broken if searched else (*broken, "no_search"))


def _stage_2(case: Case, broken: tuple[str, ...]) -> Score:
    """Reward the answer; a wrong format costs 2."""
    return Score({"format": -2.0 if broken else 0.0, "answer": case.answer_score(case.prediction)}, broken)
