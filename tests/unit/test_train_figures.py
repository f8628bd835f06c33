"""Figures of an iteration, the guards, and the curves' files."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.params import Collapse
from r1_searcher.training import curves, figures, page
from r1_searcher.types.schemas import REWARDS

GUARD = Collapse(min_format_rate=0.5, max_tokens_growth=2.0, patience=3)


def rewards(*rows: dict[str, Any]) -> pa.Table:
    plain = {"violations": [], "format_right": True, "counted": True, "num_searches": 0, "num_policy_tokens": 10}
    numbers = dict.fromkeys(("total", "retrieval", "format", "answer", "em", "f1", "cover_em"), 0.0)
    return pa.Table.from_pylist([{**plain, **numbers, **row} for row in rows], schema=REWARDS)


def test_means_by_hand() -> None:
    found = figures.means(
        rewards(
            {"total": 1.0, "f1": 0.5, "num_searches": 2, "num_policy_tokens": 30},
            {"total": -2.0, "f1": 0.0, "num_searches": 0, "format_right": False},
            {"total": 9.0, "num_searches": 7, "counted": False},
        )
    )
    assert found["reward"] == -0.5 and found["f1"] == 0.25 and found["format_rate"] == 0.5
    assert found["searches"] == 1.0 and found["search_rate"] == 0.5 and found["response_length"] == 20.0
    assert found["error_share"] == pytest.approx(1 / 3)


def test_where_all_were_lost_the_error_share_says_so() -> None:
    found = figures.means(rewards({"counted": False}))
    assert found["error_share"] == 1.0 and found["reward"] == 0.0
    with pytest.raises(PipelineError, match="failed on 100% of the trajectories"):
        figures.check_errors(found, 0.2)
    figures.check_errors({"error_share": 0.2}, 0.2)


def history(*format_rates: float, lengths: list[float] | None = None) -> list[dict[str, float]]:
    return [
        {"format_rate": rate, "response_length": length}
        for rate, length in zip(format_rates, lengths or [10.0] * len(format_rates), strict=True)
    ]


def collapse(found: list[dict[str, float]]) -> str:
    stop = figures.collapse(found, GUARD, "train.stage1.collapse")
    return f"{stop.why} ({stop.advice})" if stop else ""


def test_the_collapse_guard_waits_for_its_patience() -> None:
    assert not collapse(history(0.1, 0.1))
    assert not collapse(history(0.1, 0.1, 0.6, 0.1, 0.1))
    assert "collapsed: the format rate stayed below 0.5" in collapse(history(0.9, 0.1, 0.1, 0.1))


def test_what_was_never_there_has_not_collapsed() -> None:
    said = collapse(history(0.0, 0.1, 0.0))
    assert "from the first iteration on (highest: 0.100)" in said and "collapsed" not in said
    assert "base policy" in said and "learning rate" not in said


def test_the_collapse_guard_sees_length() -> None:
    assert not collapse(history(1, 1, 1, 1, lengths=[10, 21, 21, 20]))
    assert "above 20 tokens" in collapse(history(1, 1, 1, 1, lengths=[10, 21, 21, 21]))


def test_iterations_that_trained_nothing_are_said_once_per_patience() -> None:
    def curve(equal: int, reward: float = 0.0) -> dict[str, float]:
        return {"num_groups": 4.0, "num_zero_advantage_groups": float(equal), "reward": reward}

    assert figures.equal_rewards([curve(4)] * 2, 3) is None
    assert "the last 3 iterations trained nothing" in (figures.equal_rewards([curve(4)] * 3, 3) or "")
    assert figures.equal_rewards([curve(4)] * 4, 3) is None
    assert figures.equal_rewards([curve(4), curve(3), curve(4)], 3) is None
    assert "+0.000 to +1.000" in (figures.equal_rewards([curve(4), curve(4, 1.0), curve(4)], 3) or "")


def test_the_line_says_how_many_questions_trained_nothing_if_they_are_many() -> None:
    means = figures.means(rewards({"total": 0.5}))

    def line(share: float) -> str:
        return figures.line("x", means, tokens_per_second=None, seconds_left=None, zero_advantage=share)

    assert "zero-advantage" not in line(0.85)
    assert "zero-advantage groups 94%" in line(0.9375)
    assert figures.zero_advantage_share({"num_groups": 0.0, "num_zero_advantage_groups": 0.0}) == 0


def test_the_line_says_what_is_asked_for() -> None:
    means = figures.means(rewards({"total": 0.5, "num_searches": 1}))
    line = figures.line("s1-00  3/18", means, tokens_per_second=2345.6, seconds_left=95)
    for part in (
        "s1-00  3/18",
        "reward +0.500",
        "searched 1.00",
        "format 1.00",
        "F1 0.000",
        "2,346 tok/s",
        "left 1:35",
    ):
        assert part in line
    assert "stored" in figures.line("x", means, tokens_per_second=None, seconds_left=None)


def test_curves_keep_their_columns_first_and_absent_figures_empty() -> None:
    rows = [{"iteration": n, "stage": "stage1", "segment": "a", "reward": 0.5 * n, "loss": 0.1} for n in (1, 2)]
    text = curves.curves_csv(rows, {0: {"reward": 9.0}, 2: {"reward": 1.5}})
    found = list(csv.DictReader(io.StringIO(text)))
    assert list(found[0]) == ["iteration", "stage", "segment", "reward", "loss", "watch_reward"]
    assert [row["watch_reward"] for row in found] == ["", "1.5"]


def test_gathered_curves_are_all_iterations_and_all_watches(tmp_path: Path) -> None:
    for name, numbers in (("b", (3, 4)), ("a", (1, 2))):
        rows = [{"iteration": n, "stage": "stage1", "segment": name, "reward": float(n)} for n in numbers]
        (tmp_path / f"{name}.csv").write_text(curves.curves_csv(rows, {2: {"reward": 10.0 * numbers[1]}}))
    curves.gather([tmp_path / "b.csv", tmp_path / "a.csv"], tmp_path)
    joined = list(csv.DictReader((tmp_path / curves.CURVES).open()))
    assert [row["iteration"] for row in joined] == ["1", "2", "3", "4"]
    assert "watch_reward" not in joined[0]
    watched = list(csv.DictReader((tmp_path / curves.WATCHES).open()))
    assert [(row["iteration"], row["reward"]) for row in watched] == [("2", "20.0"), ("4", "40.0")]
    with pytest.raises(PipelineError, match=r"c\.csv: no such file"):
        curves.gather([tmp_path / "c.csv"], tmp_path)


def test_rows_for_a_page_begin_with_what_is_looked_at_and_have_few_digits() -> None:
    row = {
        "iteration": 3,
        "stage": "stage1",
        "segment": "s1-00",
        "clip_fraction": 0.03328611898016997,
        "entropy": 1.1785935239395438,
        "reward": 0.34375,
        "search_rate": 0.09375,
        "format_rate": 0.59375,
        "f1": 0.0078125,
        "cover_em": 0.0,
        "learning_rate": 1e-06,
        "num_policy_tokens": 141234.0,
        "response_length": 1234.56,
        "kl_old_k1": math.nan,
        "num_groups": 8.0,
        "num_zero_advantage_groups": 2.0,
    }
    first, second = page.page_rows([row, {**row, "iteration": 4, "ref_kl": -0.123456}])
    assert list(first) == list(second)  # a page takes its columns from the first row
    assert list(first.items())[:7] == [
        ("iteration", 3),
        ("reward", 0.344),
        ("search_rate", 0.0938),
        ("format_rate", 0.594),
        ("f1", 0.00781),
        ("zero_advantage_share", 0.25),
        ("cover_em", 0),
    ]
    assert list(first)[7:9] == ["clip_fraction", "entropy"]
    assert (first["learning_rate"], first["response_length"], first["num_policy_tokens"]) == (1e-06, 1235, 141234)
    assert (first["kl_old_k1"], first["ref_kl"], second["ref_kl"]) == ("nan", "", -0.123)
    assert not {"stage", "segment"} & set(first)
