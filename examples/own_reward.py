"""A reward of your own with two components and a parameter, and an answer metric of your own.

The answer's score, minus a price per word that the policy writes. Try it on transcripts, before anything is trained:

    r1-searcher reward score --extension examples/own_reward.py --set brevity --stage 2 \
        --answer-metric first_word --parameters '{"per_word": 0.02}' tests/data/hand_made_transcripts.jsonl
"""

from collections.abc import Sequence

from pydantic import BaseModel, Field

from r1_searcher.extend import answer_metric, reward_set
from r1_searcher.rewards.case import Case


class Brevity(BaseModel):
    """Parameters of ``brevity``."""

    per_word: float = Field(0.01, ge=0)


@reward_set("brevity", parameters=Brevity)
def brevity(case: Case, parameters: Brevity) -> dict[str, float]:
    """The answer's score minus a price per word."""
    words = len(case.policy_text.split())
    return {"answer": case.answer_score(case.prediction), "brevity": -parameters.per_word * words}


@answer_metric("first_word")
def first_word(prediction: str | None, golds: Sequence[str]) -> float:
    """Whether the answer begins as a gold answer does."""
    return float(prediction is not None and any(prediction.split()[:1] == gold.split()[:1] for gold in golds))
