"""Exact match and F1 as the official scripts of SQuAD, HotpotQA and 2WikiMultiHopQA define them.

Their normalisation deletes punctuation (the paper's makes it a space): "U.S." equals "US", and "well-known" does not
equal "well known". EM is that of all three scripts; F1 is that of HotpotQA's hotpot_evaluate_v1.py, which
2wikimultihop_evaluate.py repeats: SQuAD's evaluate-v1.1.py differs only in counting the tokens that an answer shares
with yes, no or noanswer. The maximum over the gold answers is SQuAD's rule. A gold answer that normalises to nothing
follows the scripts too: EM 1 if the prediction also normalises to nothing, F1 always 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from r1_searcher.extend import answer_metric

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_CLOSED_ANSWERS = ("yes", "no", "noanswer")


@answer_metric("em_squad")
def em_squad(prediction: str | None, golds: Sequence[str]) -> float:
    """Return 1 if the prediction equals a gold answer after the official normalisation, else 0."""
    if prediction is None:
        return 0.0
    found = _normalised(prediction)
    return float(any(found == _normalised(gold) for gold in _listed(golds)))


@answer_metric("f1_squad")
def f1_squad(prediction: str | None, golds: Sequence[str]) -> float:
    """Return the best official F1 over the gold answers, in [0, 1]."""
    if prediction is None:
        return 0.0
    found = _normalised(prediction)
    return max(_f1(found, _normalised(gold)) for gold in _listed(golds))


def _listed(golds: Sequence[str]) -> Sequence[str]:
    return [golds] if isinstance(golds, str) else golds


def _normalised(text: str) -> str:
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _f1(prediction: str, gold: str) -> float:
    if prediction != gold and (prediction in _CLOSED_ANSWERS or gold in _CLOSED_ANSWERS):
        return 0.0
    predicted, golden = prediction.split(), gold.split()
    common = (Counter(predicted) & Counter(golden)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(golden)
    return 2 * precision * recall / (precision + recall)
