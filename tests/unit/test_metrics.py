"""Metrics against hand-worked cases, and properties of any answer."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.points import ANSWER_METRICS
from r1_searcher.rewards import metrics
from r1_searcher.rewards.metrics import Overlap
from r1_searcher.rewards.rules import rules_of
from r1_searcher.transcripts.grammar import Transcript

WORDS = st.lists(st.sampled_from(["the", "a", "an", "Paris", "new", "York", "yes", "no", "-", "_", "1,5"])).map(
    " ".join
)
ANSWERS = st.one_of(st.text(max_size=30), WORDS)
ALL = (metrics.em, metrics.f1, metrics.cover_em, metrics.cover_em_contiguous)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The_Beatles", "beatles"),
        ("  Rock\t'n'\n Roll ", "rock n roll"),
        ("U.S.A.", "u s"),  # punctuation becomes a space before articles are removed, so this A is one
        ("theatre and another anthem", "theatre and another anthem"),
        ("An apple a day, THE doctor", "apple day doctor"),
        ("‘Hej’ ´dag` – «nu»", "hej dag – «nu»"),  # the four quotes are removed, other marks stay
        ("1,234.5", "1 234 5"),
        ("The", ""),
        ("", ""),
        ("True", "yes"),
        ("False", "no"),
        (" False ", "false"),  # only the bare word is a no
        ("TRUE", "true"),
        ("True story", "true story"),
    ],
)
def test_normalise(text: str, normal: str) -> None:
    assert metrics.normalise(text) == normal


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [  # EM, (F1, precision, recall), Cover-EM, contiguous cover
        ("the Eiffel Tower!", "Eiffel tower", (1, (1, 1, 1), 1, 1)),
        ("Barack Hussein Obama", "Barack Obama", (0, (0.8, 2 / 3, 1), 1, 0)),  # 2 of 3 tokens, 2 of 2
        ("new york new york", "New York City", (0, (4 / 7, 1 / 2, 2 / 3), 0, 0)),  # a token counts once per match
        ("York, New", "New York", (0, (1, 1, 1), 1, 0)),  # order does not matter to F1 and Cover-EM
        ("new york", "new new york", (0, (0.8, 1, 2 / 3), 1, 0)),  # nor does repetition to Cover-EM
        ("in New York City", "York", (0, (0.4, 1 / 4, 1), 1, 1)),
        ("New Yorkshire", "New York", (0, (0.5, 0.5, 0.5), 0, 1)),  # a substring that ends inside a word
        ("yes", "Yes", (1, (1, 1, 1), 1, 1)),
        ("True", "yes", (1, (1, 1, 1), 1, 1)),
        ("yes it is", "yes", (0, (0, 0, 0), 1, 1)),  # closed answers match only themselves
        ("no", "no one knows", (0, (0, 0, 0), 0, 0)),
        ("noanswer", "some answer", (0, (0, 0, 0), 0, 0)),
        ("", "Paris", (0, (0, 0, 0), 0, 0)),
        ("Paris", "The", (0, (0, 0, 0), 0, 0)),  # a gold that normalises to nothing is compared exactly
        ("a", "The", (0, (0, 0, 0), 0, 0)),
        ("the", "The", (0, (0, 0, 0), 0, 0)),
        ("", "The", (0, (0, 0, 0), 0, 0)),
        (" The\n", "The ", (1, (1, 1, 1), 1, 1)),
        ("A", "A", (1, (1, 1, 1), 1, 1)),
        ("A)", "A", (0, (0, 0, 0), 0, 0)),
        (")", ")", (1, (1, 1, 1), 1, 1)),
        ("...", "?", (0, (0, 0, 0), 0, 0)),
        (None, "Paris", (0, (0, 0, 0), 0, 0)),
        (None, "The", (0, (0, 0, 0), 0, 0)),  # no answer is never right, not even here
        (None, "", (0, (0, 0, 0), 0, 0)),
    ],
)
def test_hand_worked_cases(
    prediction: str | None, gold: str, expected: tuple[float, tuple[float, float, float], float, float]
) -> None:
    em, overlap, cover, contiguous = expected
    assert metrics.em(prediction, gold) == em
    assert metrics.overlap(prediction, gold) == pytest.approx(Overlap(*overlap))
    assert metrics.f1(prediction, gold) == pytest.approx(overlap[0])
    assert metrics.cover_em(prediction, gold) == cover
    assert metrics.cover_em_contiguous(prediction, gold) == contiguous


def test_the_best_of_several_golds_counts() -> None:
    golds = ["New York City", "NYC", "York"]
    assert metrics.em("nyc", golds) == 1
    assert metrics.f1("New York", golds) == pytest.approx(0.8)  # of 0.8, 0 and 2/3
    assert metrics.cover_em("York in England", golds) == 1
    assert metrics.cover_em_contiguous("old york", golds) == 1
    # Precision and recall are those of the gold answer with the best F1, not the best of each.
    assert metrics.overlap("New York", ["York", "New York City"]) == pytest.approx(Overlap(0.8, 1, 2 / 3))


def test_a_gold_is_needed() -> None:
    with pytest.raises(ValueError, match="no gold answer"):
        metrics.em(None, [])


def test_answer_metric_by_name() -> None:
    assert ANSWER_METRICS.find("f1").value("Paris France", "Paris") == pytest.approx(2 / 3)
    assert ANSWER_METRICS.find("em").value("Paris France", "Paris") == 0
    assert ANSWER_METRICS.find("cover_em").value("Paris France", "Paris") == 1


@given(ANSWERS)
def test_normalising_twice_changes_nothing_but_booleans(text: str) -> None:
    once = metrics.normalise(text)
    assert metrics.normalise(once) == once
    assert once == " ".join(once.split())
    assert not set(once.split()) & {"a", "an", "the"}


@given(ANSWERS, ANSWERS)
def test_metrics_are_ordered_and_bounded(prediction: str, gold: str) -> None:
    em, f1, cover = (score(prediction, gold) for score in (metrics.em, metrics.f1, metrics.cover_em))
    assert {em, cover} <= {0.0, 1.0}
    assert 0 <= f1 <= 1
    assert em <= cover <= 1
    assert em <= metrics.cover_em_contiguous(prediction, gold)
    if em:
        assert f1 == 1
    assert f1 == pytest.approx(metrics.f1(gold, prediction))  # symmetric


@given(ANSWERS, st.lists(ANSWERS, min_size=1, max_size=4))
def test_more_golds_never_lower_a_metric(prediction: str, golds: list[str]) -> None:
    for score in (metrics.em, metrics.f1, metrics.cover_em, metrics.cover_em_contiguous):
        assert score(prediction, golds) == max(score(prediction, gold) for gold in golds)


def before_exact_golds(prediction: str, gold: str) -> tuple[float, float, float, float]:
    """EM, F1, Cover-EM and its contiguous variant as they were before golds that normalise to nothing had a rule."""
    found, normal = metrics.normalise(prediction), metrics.normalise(gold)
    closed = ("yes", "no", "noanswer")
    predicted, golden = found.split(), normal.split()
    common = sum((Counter(predicted) & Counter(golden)).values())
    f1 = 0.0
    if common and (found == normal or not {found, normal} & set(closed)):
        precision, recall = common / len(predicted), common / len(golden)
        f1 = 2 * precision * recall / (precision + recall)
    cover = set(normal.split(" ")) <= set(found.split(" "))
    return float(found == normal), f1, float(cover), float(normal in found)


@given(ANSWERS, ANSWERS)
def test_only_golds_that_normalise_to_nothing_are_compared_exactly(prediction: str, gold: str) -> None:
    found = tuple(score(prediction, gold) for score in ALL)
    if metrics.compared_exactly(gold):
        assert found == (float(prediction.strip() == gold.strip()),) * 4
    else:
        assert found == before_exact_golds(prediction, gold)


NOTHING = st.text("aA .?!'-_\t", max_size=4).filter(metrics.compared_exactly)


@given(NOTHING, NOTHING, ANSWERS)
def test_exact_golds_beside_others(prediction: str, nothing: str, other: str) -> None:
    equal = float(prediction.strip() == nothing.strip())
    for score in ALL:
        assert score(prediction, nothing) == equal
        assert score(prediction, [nothing, other]) == max(equal, score(prediction, other))
    assert metrics.num_compared_exactly([[nothing, "Paris"], [nothing]]) == 2


@pytest.mark.parametrize("gold", ["The", ")", "A"])
@pytest.mark.parametrize("metric", ["em", "f1", "cover_em"])
def test_rewards_compare_such_golds_exactly(gold: str, metric: str) -> None:
    rules = rules_of("paper", metric)
    said = [Transcript(f" so.</think>\n<answer> {text} </answer>") for text in (gold, gold.swapcase() + "!")]
    assert [rules.score(text, gold, 2).total for text in said] == [1.0, 0.0]
