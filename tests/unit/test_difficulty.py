"""Difficulty by rollouts, with a fake rollout: levels, counts, the cost of a kill, what is recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import r1_searcher.rollout
from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files.store import Store
from r1_searcher.questions import difficulty
from r1_searcher.types import schemas

ROOT = Path(__file__).resolve().parents[2]
RAW = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
LIMITS = params.check(RAW).difficulty


def settings(seed: int = 0, k: int = 2, **changes: Any) -> params.Params:
    raw = RAW | {"seed": seed, "rollout": RAW["rollout"] | {"k": k}}
    return params.check(raw | {"difficulty": RAW["difficulty"] | {"questions_a_chunk": 2} | changes})


def questions(*ids: str) -> pa.Table:
    rows = [
        {"question_id": one, "question": f"{one}?", "answers": ["Rome"], "dataset": "d", "supporting_titles": ["t"]}
        for one in ids
    ]
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


class Policy:
    """A fake rollout: question ``qN`` is right N times, once only by Cover-EM."""

    name = "scripted"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails_at = ""  # a question at which the process dies
        self.lost = 0  # rollouts per question lost to the retriever

    def opened(self) -> tuple[Any, Any]:
        return self, None

    def roll_out(
        self, engine: Any, retriever: Any, table: pa.Table, rollout: Any, *, samples: int, seed: int, told: Any
    ) -> Any:
        rows = []
        for question in table.to_pylist():
            one = question["question_id"]
            if one == self.fails_at:
                raise KeyboardInterrupt
            self.asked.append(one)
            right = int(one[1:])
            answers = ["in Rome", *["Rome"] * (right - 1)][:right] + ["Paris", None] * samples
            for sample in range(samples):
                reason = "retriever_error" if sample >= samples - self.lost else "answer"
                rows.append(question | {"answer": answers[sample], "finish_reason": reason, "sample": sample})
        return pa.Table.from_pylist(rows, schema=schemas.ROLLOUTS), {}


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Policy:
    made = Policy()
    monkeypatch.setattr(r1_searcher.rollout, "roll_out", made.roll_out)
    return made


def count(fake: Policy, table: pa.Table, store: Path, chosen: params.Params | None = None, **other: Any) -> pa.Table:
    usual: dict[str, Any] = {"policy": "p", "index": "i", "samples": 20}
    return difficulty.count_passes(table, chosen or settings(), **usual | other, opened=fake.opened, store=Store(store))


# --- levels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_rollouts", "num_passes", "expected"),
    [
        (20, 3, "easy"),  # 6.7 rollouts per right answer
        (20, 2, "medium"),  # 10
        (20, 1, "medium"),  # 20
        (20, 0, "difficult"),  # more than 20
        (40, 1, "difficult"),
        (19, 2, "easy"),  # 9.5
        (19, 0, None),  # more than 19: medium or difficult
        (0, 0, None),
    ],
)
def test_levels_are_the_papers(num_rollouts: int, num_passes: int, expected: str | None) -> None:
    assert difficulty.level(num_rollouts, num_passes, LIMITS) == expected


@given(rollouts=st.integers(20, 200), passes=st.integers(0, 19))
def test_more_right_answers_are_never_more_difficult(rollouts: int, passes: int) -> None:
    places = [difficulty.LEVELS.index(difficulty.level(rollouts, one, LIMITS) or "") for one in (passes, passes + 1)]
    assert places[0] >= places[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"easy_below": 30}, "easy_below is 30, above medium_up_to, 20"),
        ({"samples": 19}, "samples is 19, and too few to tell medium"),
        ({"mixes": {"m": {"questions": "x", "counts": {"d": {"hard": 1}}}}}, r"mixes\.m\.counts\.d: .*got .hard"),
    ],
)
def test_parameters_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        settings(**changes)


# --- counts -------------------------------------------------------------------------------------


def test_counts_and_labels(policy: Policy, tmp_path: Path) -> None:
    table = questions("q0", "q1", "q2", "q3", "q4")
    counts = count(policy, table, tmp_path)
    assert counts.column_names == difficulty.COUNTS.names
    assert counts["num_rollouts"].to_pylist() == [20] * 5
    assert counts["cover_em"].to_pylist() == [0, 1, 2, 3, 4]
    assert counts["em"].to_pylist() == [0, 0, 1, 2, 3]
    labelled = difficulty.label(table, counts, LIMITS)
    assert labelled.schema == schemas.QUESTIONS
    assert labelled["difficulty"].to_pylist() == ["difficult", "medium", "medium", "easy", "easy"]
    assert labelled["num_passes"].to_pylist() == [0, 1, 2, 3, 4]
    assert labelled.drop_columns(["difficulty", "num_rollouts", "num_passes"]).equals(
        table.drop_columns(["difficulty", "num_rollouts", "num_passes"])
    )
    strict = difficulty.label(table, counts, settings(metric="em").difficulty)
    assert strict["difficulty"].to_pylist() == ["difficult", "difficult", "medium", "medium", "easy"]
    assert difficulty.tally(labelled) == {"d": {"easy": 2, "medium": 2, "difficult": 1}}


def test_a_metric_of_ones_own_is_counted_beside_the_others(policy: Policy, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from r1_searcher.extend import answer_metric\n@answer_metric('in-any-word')\n"
        "def anywhere(prediction, golds):\n    return 'in ' in (prediction or '')\n",
        encoding="utf-8",
    )
    raw = RAW | {"extensions": [str(mine)], "difficulty": RAW["difficulty"] | {"metric": "in-any-word"}}
    chosen, table = params.check(raw), questions("q1", "q2")
    counts = count(policy, table, tmp_path, chosen)
    assert counts.column_names == [*difficulty.COUNTS.names, difficulty.RIGHT_COLUMN]
    assert counts[difficulty.RIGHT_COLUMN].to_pylist() == [1, 1]
    assert difficulty.label(table, counts, chosen.difficulty)["num_passes"].to_pylist() == [1, 1]
    asked = len(policy.asked)
    count(policy, table, tmp_path, chosen)
    assert len(policy.asked) == asked  # stored
    mine.write_text(mine.read_text().replace("'in '", "'Rome'"))
    assert count(policy, table, tmp_path, chosen)[difficulty.RIGHT_COLUMN].to_pylist() == [1, 2]
    mine.write_text(mine.read_text().replace("return", "return 1 / 0 +"))
    with pytest.raises(
        PipelineError, match=r"mine\.py, line 4, question q1: the answer metric 'in-any-word' raised Zero"
    ):
        count(policy, table, tmp_path, chosen)


def test_f1_is_a_metric_too_and_what_is_unknown_says_where(policy: Policy, tmp_path: Path) -> None:
    counts = count(policy, questions("q2"), tmp_path, settings(metric="f1"))
    assert counts[difficulty.RIGHT_COLUMN].to_pylist() == counts["em"].to_pylist() == [1]
    with pytest.raises(
        PipelineError, match=r"difficulty\.metric: no answer metric 'f2' \(known: .*cover_em, .*em, .*f1"
    ):
        settings(metric="f2")


def test_a_stopped_run_goes_on_and_ends_alike(policy: Policy, tmp_path: Path) -> None:
    table = questions("q0", "q1", "q2", "q3", "q4")
    whole = count(policy, table, tmp_path / "whole")
    policy.asked.clear()
    policy.fails_at = "q3"
    with pytest.raises(KeyboardInterrupt):
        count(policy, table, tmp_path / "cut")
    policy.fails_at = ""
    assert count(policy, table, tmp_path / "cut").equals(whole)
    assert policy.asked == ["q0", "q1", "q2", "q2", "q3", "q4"]  # the interrupted chunk is repeated


def test_what_a_count_depends_on_and_nothing_else(policy: Policy, tmp_path: Path) -> None:
    table = questions("q0", "q1", "q2", "q3")

    def asked(**changes: Any) -> int:
        policy.asked.clear()
        count(policy, changes.pop("table", table), tmp_path, changes.pop("chosen", None), **changes)
        return len(policy.asked)

    assert asked() == 4
    assert asked() == 0
    assert asked(chosen=settings(metric="em", easy_below=5, medium_up_to=15)) == 0
    assert asked(table=questions("q0", "q1", "q2", "q9")) == 2  # its chunk
    assert [asked(policy="other"), asked(index="other"), asked(samples=21)] == [4] * 3
    assert [asked(chosen=settings(seed=1)), asked(chosen=settings(k=3))] == [4] * 2


def test_rollouts_that_the_retriever_lost_are_not_counted(policy: Policy, tmp_path: Path) -> None:
    policy.lost = 4  # max_error_share is 0.2
    counts = count(policy, questions("q0", "q1"), tmp_path)
    assert counts["num_rollouts"].to_pylist() == [16, 16]
    labelled = difficulty.label(questions("q0", "q1"), counts, LIMITS)
    assert labelled["difficulty"].to_pylist() == [None, "medium"]
    assert difficulty.tally(labelled)["d"] == {"easy": 0, "medium": 1, "difficult": 0, "unknown": 1}
    policy.lost = 5
    with pytest.raises(PipelineError, match="the retriever failed 10 of 40 rollouts"):
        count(policy, questions("q2", "q3"), tmp_path)
    policy.lost = 0
    assert count(policy, questions("q2", "q3"), tmp_path)["num_rollouts"].to_pylist() == [20, 20]
