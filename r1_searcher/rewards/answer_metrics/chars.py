"""Character-wise exact match, F1 and cover, for languages that are written without spaces.

Texts are compared by NFKC characters, case folded, each with the combining marks that follow it (so that a vowel sign
of Thai or Burmese belongs to its consonant). White space, control characters and the punctuation of any script do not
count; articles do. In languages with spaces F1 is too generous, because unrelated words share letters.

A gold answer without any such character ("?") is compared exactly, as in ``r1_searcher.rewards.metrics``.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from r1_searcher.extend import answer_metric
from r1_searcher.rewards.metrics import same_text

_LEFT_OUT = ("P", "Z", "C")  # categories: punctuation, separators, control and format characters

Characters = list[str]


@answer_metric("em_chars")
def em_chars(prediction: str | None, golds: Sequence[str]) -> float:
    """Return 1 if the characters are those of a gold answer in its order, else 0."""
    return _best(lambda found, gold: float(found == gold), prediction, golds)


@answer_metric("f1_chars")
def f1_chars(prediction: str | None, golds: Sequence[str]) -> float:
    """Return the best F1 over the multisets of characters, in [0, 1]."""
    return _best(_f1, prediction, golds)


@answer_metric("cover_chars")
def cover_chars(prediction: str | None, golds: Sequence[str]) -> float:
    """Return 1 if the characters of a gold answer occur in the prediction one after another, else 0."""
    return _best(_covers, prediction, golds)


def characters(text: str) -> Characters:
    """Return the characters that count, each with its combining marks."""
    found: Characters = []
    for one in unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()):
        category = unicodedata.category(one)
        if category[0] in _LEFT_OUT or one in string.punctuation:
            continue
        if category[0] == "M" and found:
            found[-1] += one
        else:
            found.append(one)
    return found


def _f1(found: Characters, gold: Characters) -> float:
    common = (Counter(found) & Counter(gold)).total()
    return 2 * common / (len(found) + len(gold))


def _covers(found: Characters, gold: Characters) -> float:
    return float(any(found[start : start + len(gold)] == gold for start in range(len(found) - len(gold) + 1)))


def _best(
    match: Callable[[Characters, Characters], float], prediction: str | None, golds: str | Sequence[str]
) -> float:
    if prediction is None:
        return 0.0
    found = characters(prediction)

    def score(gold: str) -> float:
        wanted = characters(gold)
        return match(found, wanted) if wanted else float(same_text(prediction, gold))

    return max(score(gold) for gold in ([golds] if isinstance(golds, str) else golds))
