"""Character-wise metrics: for languages without spaces, in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.points import ANSWER_METRICS
from r1_searcher.rewards.answer_metrics.chars import characters, cover_chars, em_chars, f1_chars
from r1_searcher.rewards.rules import rules_of
from r1_searcher.transcripts.grammar import Transcript


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [  # em_chars, f1_chars, cover_chars
        ("北京", "北京", (1, 1, 1)),
        ("北京。", "北京", (1, 1, 1)),  # punctuation of any script does not count
        ("答案是 北京", "北京", (0, 4 / 7, 1)),
        ("京北", "北京", (0, 1, 0)),
        ("北京大学", "北京师范大学", (0, 0.8, 0)),
        ("ﾄｳｷｮｳ", "トウキョウ", (1, 1, 1)),  # half width
        ("ＡＢＣ大学", "abc大学", (1, 1, 1)),
        ("กรุงเทพ", "กรุงเทพมหานคร", (0, 2 / 3, 0)),  # 6 of 12 characters
        ("서울특별시", "서울", (0, 4 / 7, 1)),
        ("서울", "서울".encode().decode(), (1, 1, 1)),
        ("", "北京", (0, 0, 0)),
        (None, "北京", (0, 0, 0)),
        ("？", "？", (1, 1, 1)),  # nothing that counts: compared exactly
        ("！", "？", (0, 0, 0)),
        ("北京", "？", (0, 0, 0)),
    ],
)
def test_hand_worked_cases(prediction: str | None, gold: str, expected: tuple[float, float, float]) -> None:
    found = [metric(prediction, [gold]) for metric in (em_chars, f1_chars, cover_chars)]
    assert found == pytest.approx(list(expected))


def test_combining_marks_belong_to_their_character() -> None:
    assert characters("กี่") == ["กี่"]
    assert characters("é") == characters("e\N{COMBINING ACUTE ACCENT}") == ["é"]
    assert characters(" 1,5 km\N{ZERO WIDTH NON-JOINER}") == list("15km")
    assert characters("ẞ") == ["s", "s"]


TEXT = st.text("北京东 。,.aAé?\N{COMBINING ACUTE ACCENT}ก่", max_size=8)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_they_are_ordered_bounded_and_the_best_gold_counts(prediction: str, golds: list[str]) -> None:
    em, f1, cover = (metric(prediction, golds) for metric in (em_chars, f1_chars, cover_chars))
    assert 0 <= em <= min(f1, cover) and f1 <= 1 and cover in (0, 1)
    for metric in (em_chars, f1_chars, cover_chars):
        assert metric(prediction, golds) == max(metric(prediction, [gold]) for gold in golds)


def test_a_reward_can_use_them() -> None:
    assert {"em_chars", "f1_chars", "cover_chars", "em_squad", "f1_squad"} <= {*ANSWER_METRICS.names()}
    said = Transcript(" so.</think>\n<answer> Chùa Một Cột, Hà Nội </answer>")
    assert rules_of("paper", "cover_chars").score(said, ["Hà Nội"], 2).total == 1
