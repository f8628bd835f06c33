"""Answer metrics: EM, F1, Cover-EM and its contiguous variant (arXiv 2503.05592).

Reward and evaluation both use this module, so that training optimises what is measured. ``prediction`` is None if no
answer was given, which scores 0; ``golds`` is one gold answer or several (aliases), of which the best match counts.

A gold answer that normalises to nothing, such as "A" or "?", is compared exactly: a prediction that is the same text,
apart from white space around it, scores 1 in every metric, any other 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

METRIC_VERSION = "2"  # raise it with every change that can change a figure; part of the protocol card

# Metrics that would credit an answer for naming both options of a comparison, the built-in answer metrics included.
CREDIT_PARTS = ("f1", "cover_em", "cover_em_contiguous", "f1_squad", "f1_chars", "cover_chars")

_BOOLEANS = {"True": "yes", "False": "no"}
_CLOSED_ANSWERS = ("yes", "no", "noanswer")
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


class Overlap(NamedTuple):
    """Agreement of the tokens of a prediction and a gold answer, each in [0, 1]."""

    f1: float
    precision: float
    recall: float


NO_OVERLAP = Overlap(0.0, 0.0, 0.0)
_FULL_OVERLAP = Overlap(1.0, 1.0, 1.0)


def normalise(text: str) -> str:
    """Return the form in which answers are compared, perhaps empty; its tokens are separated by single spaces.

    The order of the steps matters: punctuation becomes a space before articles are removed, so that the "A" of
    "vitamin-A" is an article too. Only a whole answer "True" or "False" becomes yes or no, and only without white space
    around it: the published figures score " False " as it is.
    """
    text = _BOOLEANS.get(text, text).replace("_", " ").lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", text).split())


def compared_exactly(gold: str) -> bool:
    """Return whether a gold answer normalises to nothing, so that only a prediction of the same text is right."""
    return not normalise(gold)


def num_compared_exactly(golds: Iterable[Sequence[str]]) -> int:
    """Return how many of the gold answers of some questions are compared exactly."""
    return sum(compared_exactly(gold) for one in golds for gold in one)


def same_text(prediction: str, gold: str) -> bool:
    """Return whether two texts are equal apart from white space around them."""
    return prediction.strip() == gold.strip()


def em(prediction: str | None, golds: str | Sequence[str]) -> float:
    """Return exact match: 1 if prediction and gold are equal after normalisation, else 0."""
    return _best(_equal, prediction, golds)


def f1(prediction: str | None, golds: str | Sequence[str]) -> float:
    """Return F1 over the multisets of normalised tokens, in [0, 1]."""
    return overlap(prediction, golds).f1


def overlap(prediction: str | None, golds: str | Sequence[str]) -> Overlap:
    """Return F1, precision and recall for the gold answer with the best F1."""
    listed = _listed(golds)
    if prediction is None:
        return NO_OVERLAP
    found = normalise(prediction)
    return max((_overlap_with(gold, prediction, found) for gold in listed), key=lambda pair: pair.f1)


def cover_em(prediction: str | None, golds: str | Sequence[str]) -> float:
    """Return Cover-EM, the paper's ACC_R: 1 if every gold token occurs in the prediction, in any order and number, else
    0."""
    return _best(_covers, prediction, golds)


def cover_em_contiguous(prediction: str | None, golds: str | Sequence[str]) -> float:
    """Return 1 if the normalised gold is a substring of the normalised prediction, else 0.

    The substring may begin or end inside a word. It is the released evaluation's second cover metric, not the paper's
    ACC_R.
    """
    return _best(_contains, prediction, golds)


def _equal(prediction: str, gold: str) -> bool:
    return prediction == gold


def _covers(prediction: str, gold: str) -> bool:
    return set(gold.split()) <= set(prediction.split())


def _contains(prediction: str, gold: str) -> bool:
    return gold in prediction


def _overlap_with(gold: str, prediction: str, found: str) -> Overlap:
    """Compare a prediction (and ``found``, its normalised form) with a gold answer."""
    if normal := normalise(gold):
        return _overlap(found, normal)
    return _FULL_OVERLAP if same_text(prediction, gold) else NO_OVERLAP


def _overlap(prediction: str, gold: str) -> Overlap:
    """Compare two normalised texts. A yes, no or noanswer shares nothing with anything but itself."""
    if prediction != gold and (prediction in _CLOSED_ANSWERS or gold in _CLOSED_ANSWERS):
        return NO_OVERLAP
    predicted, golden = prediction.split(), gold.split()
    common = (Counter(predicted) & Counter(golden)).total()
    if common == 0:
        return NO_OVERLAP
    precision, recall = common / len(predicted), common / len(golden)
    return Overlap(2 * precision * recall / (precision + recall), precision, recall)


def _best(match: Callable[[str, str], bool], prediction: str | None, golds: str | Sequence[str]) -> float:
    listed = _listed(golds)
    if prediction is None:
        return 0.0
    found = normalise(prediction)

    def matches(gold: str) -> bool:
        normal = normalise(gold)
        return match(found, normal) if normal else same_text(prediction, gold)

    return float(any(map(matches, listed)))


def _listed(golds: str | Sequence[str]) -> Sequence[str]:
    listed = [golds] if isinstance(golds, str) else golds
    if not listed:
        raise ValueError("no gold answer to compare with")
    return listed
