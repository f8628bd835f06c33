"""The rewards of the release's servers for instruction-tuned models."""

from __future__ import annotations

from r1_searcher.extend import reward_set
from r1_searcher.rewards import metrics
from r1_searcher.rewards.case import Case, Score
from r1_searcher.rewards.counted_tags import count_violations, other_scripts, released_prediction, released_text
from r1_searcher.transcripts import grammar


@reward_set("released-instruct")
def released_instruct(case: Case) -> Score:
    """Return a transcript's reward and the rules that it breaks."""
    text = released_text(case.transcript)
    return _stage_1(case, text) if case.stage == 1 else _stage_2(case, text)


def _stage_1(case: Case, text: str) -> Score:
    """Reward Cover-EM with plus or minus 1, balanced searching with 0.5, and the tags with 0.5."""
    retrieval = count_violations(text, case.transcript.tools) or ([] if grammar.QUERY in text else ["no_search"])
    form = grammar.tag_count_violations(text)
    parts = {
        "retrieval": 0.0 if retrieval else 0.5,
        "format": 0.0 if form else 0.5,
        "answer": 1.0 if metrics.cover_em(released_prediction(text), case.golds) else -1.0,
    }
    return Score(parts, (*retrieval, *form))


def _stage_2(case: Case, text: str) -> Score:
    """Reward the answer; any broken rule costs 1, once."""
    counted = count_violations(text, case.transcript.tools)
    broken = [*counted, *grammar.tag_count_violations(text), *other_scripts(text, case.transcript)]
    answer = case.answer_score(released_prediction(text))
    return Score({"format": -1.0 if broken else 0.0, "answer": answer}, tuple(broken))
