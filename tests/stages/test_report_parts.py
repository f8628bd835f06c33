"""The report's small functions: axes, curves, marked transcripts, which trajectories are shown."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.report.charts import ChartPoint, Interval, curve_chart, interval_chart, number, smoothed, ticks
from r1_searcher.report.inputs import Moment
from r1_searcher.report.page import figure
from r1_searcher.report.trajectories import Span, best_and_worst, choose_questions, parts, segment_advantages, spans


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_span_the_data_in_few_equal_steps(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    slack = width * 1e-6
    assert marks[0] <= low + slack and marks[-1] >= low + width - slack
    assert 2 <= len(marks) <= 8
    steps = [after - before for before, after in itertools.pairwise(marks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-4)


def test_ticks_of_a_single_value() -> None:
    marks = ticks(0.3, 0.3)
    assert marks[0] < 0.3 < marks[-1]


def test_a_mean_of_neighbours_does_not_cross_a_stage() -> None:
    points = [
        ChartPoint(0, 1, "stage1"),
        ChartPoint(1, 1, "stage1"),
        ChartPoint(2, -1, "stage2"),
        ChartPoint(3, -3, "stage2"),
    ]
    assert [point.y for point in smoothed(points, 3)] == [1, 1, -2, -2]


@pytest.mark.parametrize("length", [1, 2, 40])
def test_a_curve_of_two_stages_is_two_lines_and_one_boundary(length: int) -> None:
    points = [ChartPoint(x, x * 0.1, "stage1" if x < length else "stage2") for x in range(2 * length)]
    svg = ET.fromstring(str(curve_chart("Reward <&>", points, watch=points[:1])))
    kinds = [element.get("class") for element in svg.iter()]
    assert kinds.count("line") == 2 and kinds.count("edge") == 1 and kinds.count("watch") == 1
    assert (svg.get("aria-label") or "").startswith("Reward <&>: 0.000 at iteration 0")
    for element in svg.iter("circle"):
        assert 0 <= float(element.get("cx", "-1")) <= 360 and 0 <= float(element.get("cy", "-1")) <= 210


def test_a_flat_curve_is_drawn_inside_its_frame() -> None:
    svg = str(curve_chart("KL", [ChartPoint(x, 0.0, "stage1") for x in range(20)]))
    assert "nan" not in svg.lower()


def test_interval_whiskers_are_clipped_to_the_unit() -> None:
    svg = str(interval_chart("EM", [Interval("base", 0.02, -0.1, 1.2)], guess=0.5))
    ends = [float(end) for end in re.findall(r"[MH](\d+\.\d)", svg.split('class="whisker"')[1])]
    assert min(ends) == 106.0 and max(ends) == 380 - 46


def test_figures_for_people() -> None:
    assert [number(value) for value in (0.0, 0.5, 1.0, 2.0, 2.5, 61.333, 1234.5, 2e-6)] == [
        "0.000", "0.500", "1.000", "2", "2.5", "61.3", "1,234", "2.0e-06"
    ]  # fmt: skip
    assert [figure(value) for value in (None, True, [0.1, 0.2], 400, "x")] == [
        "–", "yes", "0.100 to 0.200", "400", "x"
    ]  # fmt: skip


def test_queries_and_answers_are_marked_only_where_their_tags_close() -> None:
    assert spans("so <|begin_of_query|>who<|end_of_query|>") == [
        Span("text", "so "),
        Span("tag", "<|begin_of_query|>"),
        Span("query", "who"),
        Span("tag", "<|end_of_query|>"),
    ]
    open_answer = spans("<answer>Tarn")
    assert [span.kind for span in open_answer] == ["tag", "text"]
    crossed = spans("<answer>Tarn<|end_of_query|>")
    assert [span.kind for span in crossed] == ["tag", "text", "tag"]


@given(
    st.lists(st.sampled_from(["<answer>", "</answer>", "<|begin_of_query|>", "<|end_of_query|>", "</think>", "ab "]))
)
def test_marking_loses_and_adds_nothing(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert "".join(span.text for span in spans(text)) == text


def test_each_policy_segment_has_the_mean_of_its_own_tokens() -> None:
    assert segment_advantages([0, 0, 1, 1, 2, 2, 1], [1.0, 3.0, -1.0]) == [2.0, -1.0]
    segments = [{"source": source, "text": source} for source in ("policy", "document", "policy")]
    shown = parts(segments, [2.0, -0.1])
    assert [(part.source, part.advantage, part.tint) for part in shown] == [
        ("policy", 2.0, "up strong"),
        ("document", None, ""),
        ("policy", -0.1, "down"),
    ]
    assert [part.advantage for part in parts(segments, [2.0])] == [None, None, None]


def test_tags_inside_a_passage_are_no_marks() -> None:
    block = "\n\n<|begin_of_documents|>\n(1) <answer>x</answer>\n<|end_of_documents|>\n\n"
    (part,) = parts([{"source": "document", "text": block}])
    assert [span.kind for span in part.spans] == ["tag", "text", "tag"]


def rows(right: list[int]) -> list[dict[str, Any]]:
    return [{"question_id": f"q{place}", "cover_em": float(value)} for place, value in enumerate(right)]


@pytest.mark.parametrize(
    ("before", "after", "chosen"),
    [
        ([0] * 9, [1] * 6 + [0] * 3, ["q0", "q1", "q6"]),  # two of three turned right, then a failure
        ([0] * 4, [0] * 4, ["q0", "q1", "q2"]),
        ([0] * 4, [1] * 4, ["q0", "q1", "q2"]),
        ([1, 0, 1, 1], [1, 1, 1, 1], ["q1", "q0", "q2"]),  # those that were right before fill the rest
        ([0], [1], ["q0"]),
    ],
)
def test_choice_of_questions_shows_failures_too(before: list[int], after: list[int], chosen: list[str]) -> None:
    assert choose_questions(rows(before), rows(after), 3)[0] == chosen


def test_training_samples_are_the_best_and_worst_of_the_widest_groups() -> None:
    def row(question: str, sample: int, total: float) -> dict[str, Any]:
        return {
            "question_id": question,
            "trajectory_id": f"{question}#{sample}",
            "reward": {"total": total},
            "advantages": [total] if total else None,
            "token_source": [0, 1],
            "segments": [{"source": "policy", "text": "x"}],
        }

    moment = Moment("s1", "stage1", "0000", [row("a", 0, 0.5), row("a", 1, 0.5), row("b", 0, -2.0), row("b", 1, 1.0)])
    cards = best_and_worst(moment, 1)
    assert [(card["trajectory_id"], card["rank"]) for card in cards] == [
        ("b#1", "best of 2 samples"),
        ("b#0", "worst of 2 samples"),
    ]
    assert cards[1]["advantage"] == -2.0
    assert len(best_and_worst(moment, 5)) == 3  # equal samples of a question are shown once
