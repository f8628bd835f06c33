"""Other lengths of segments, and their consequences."""

from __future__ import annotations

from typing import Any

import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.params import TrainSegment
from r1_searcher.params.segments import with_iterations

CHAIN = {
    "a": TrainSegment(stage="stage1", prev="data/base_model", iterations=4, iteration_offset=0),
    "c": TrainSegment(stage="stage2", prev="data/train/b/policy", iterations=2, iteration_offset=3),
    "b": TrainSegment(stage="stage2", prev="data/train/a/policy", iterations=3, iteration_offset=0),
    "d": TrainSegment(stage="stage2", prev="data/train/c/policy", iterations=1, iteration_offset=5),
}


def changed(**iterations: int) -> dict[str, Any]:
    segments = with_iterations(CHAIN, iterations)["train"]["segments"]
    return {name: (segment["iterations"], segment["iteration_offset"]) for name, segment in segments.items()}


def test_a_segment_starts_where_the_one_before_it_now_ends() -> None:
    assert changed() == {"a": (4, 0), "c": (2, 3), "b": (3, 0), "d": (1, 5)}
    assert changed(a=9) == {"a": (9, 0), "c": (2, 3), "b": (3, 0), "d": (1, 5)}, "another stage counts anew"
    assert changed(b=10, c=1) == {"a": (4, 0), "c": (1, 10), "b": (10, 0), "d": (1, 11)}


def test_a_chain_in_a_circle_is_left_to_the_check_of_the_chain() -> None:
    circle = {
        name: CHAIN["b"].model_copy(update={"prev": f"data/train/{before}/policy"}) for name, before in ("xy", "yx")
    }
    assert with_iterations(circle, {"x": 2})["train"]["segments"]["x"]["iterations"] == 2


def test_an_unknown_segment_is_one_line() -> None:
    with pytest.raises(PipelineError, match=r"^iterations: no segment 'e' \(known: a, c, b, d\)$"):
        changed(e=1)
