"""The outage rule on tables: who was lost, when that is too many, and that the reason is given."""

from __future__ import annotations

import pyarrow as pa
import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.rollout.outages import check_lost, outage_reasons
from r1_searcher.types import schemas


def rollouts(*errors: str | None) -> pa.Table:
    """Return one trajectory per error; None: its search succeeded."""
    rows = [
        {
            "turns": [
                {"query": "x", "passage_ids": ["p"], "scores": [1.0], "error": None},
                {"query": "y", "passage_ids": [], "scores": [], "error": error},
            ],
            "finish_reason": "answer" if error is None else "retriever_error",
        }
        for error in errors
    ]
    return pa.Table.from_pylist(rows, schema=schemas.ROLLOUTS)


def test_a_lost_trajectory_has_a_reason() -> None:
    assert outage_reasons(rollouts(None, "HTTP 503", None)) == ["HTTP 503"]
    assert outage_reasons(rollouts()) == outage_reasons(rollouts(None)) == []
    silent = pa.Table.from_pylist([{"turns": [], "finish_reason": "retriever_error"}], schema=schemas.ROLLOUTS)
    assert len(outage_reasons(silent)) == 1


def test_the_bound_is_what_may_be_lost() -> None:
    check_lost(rollouts("a", None, None, None, None), 0.2)
    with pytest.raises(PipelineError, match=r"failed on 2 of 5 trajectories \(allowed: 20%\): b"):
        check_lost(rollouts("b", "b", None, None, None), 0.2)
    with pytest.raises(PipelineError, match=r"failed on 3 of 5 .*: b \("):
        check_lost(rollouts("a", "b", "b", None, None), 0.5)  # the most common reason


def test_all_lost_is_too_many_whatever_is_allowed() -> None:
    """Otherwise they would be stored, the update would find nothing to learn from, and so would every later run."""
    check_lost(rollouts("a", "a", None), 1.0)
    with pytest.raises(PipelineError, match=r"failed on 2 of 2 trajectories \(allowed: 100%\): a"):
        check_lost(rollouts("a", "a"), 1.0)
    check_lost(rollouts(), 1.0)


def test_a_measurement_tolerates_none() -> None:
    check_lost(rollouts(None, None))
    with pytest.raises(PipelineError, match="failed on 1 of 2 trajectories, which are neither right nor wrong: down"):
        check_lost(rollouts("down", None))
