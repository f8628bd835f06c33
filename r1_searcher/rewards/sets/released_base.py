"""The reward of the release's server for base models, which has no stage 1."""

from __future__ import annotations

from r1_searcher.extend import reward_set
from r1_searcher.rewards.case import Case, Score, only_stages
from r1_searcher.rewards.counted_tags import (
    after_last_answer,
    count_violations,
    other_scripts,
    released_prediction,
    released_text,
)
from r1_searcher.transcripts import grammar

MAX_ANSWER_WORDS = 10  # a longer answer is a violation


@reward_set("released-base")
@only_stages(
    2,
    why="the release ships no stage-1 rewards for base models",
    fix="use `paper`, which has both stages, or `released-instruct`",
)
def released_base(case: Case) -> Score:
    """Reward the answer; any broken rule costs 2, once."""
    text = released_text(case.transcript)
    broken = [*count_violations(text, case.transcript.tools), *grammar.tag_count_violations(text)]
    if "Assistant" in text or "assistant" in text:
        broken.append("assistant_written")
    if grammar.ANSWER in text:
        inside = after_last_answer(text)
        called = any(tool.begin in inside for tool in case.transcript.tools)
        if called or "begin_of_query" in inside or "begin_of_documents" in inside:
            broken.append("tag_in_answer")
        if len(inside.split()) > MAX_ANSWER_WORDS:
            broken.append("answer_too_long")
    broken += other_scripts(text, case.transcript)
    answer = case.answer_score(released_prediction(text))
    return Score({"format": -2.0 if broken else 0.0, "answer": answer}, tuple(broken))
