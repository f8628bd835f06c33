"""Which questions an iteration draws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.errors import PipelineError
from r1_searcher.training.batches import draw, sampling_seed


@given(num=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_an_epoch_asks_no_question_twice_and_leaves_less_than_a_batch(
    num: int, size: int, seed: int, epoch: int
) -> None:
    if num < size:
        with pytest.raises(PipelineError, match=f"{num} training questions, but an iteration asks {size}"):
            draw(num, size, iteration=0, seed=seed, stage="stage1")
        return
    batches = num // size
    asked = [
        row
        for batch in range(batches)
        for row in draw(num, size, iteration=epoch * batches + batch, seed=seed, stage="stage1")
    ]
    assert len(asked) == len(set(asked)) == batches * size
    assert set(asked) <= set(range(num))
    assert num - len(asked) < size


def test_order_differs_by_epoch_seed_and_stage_and_is_fixed() -> None:
    def epoch(**other: object) -> list[int]:
        return draw(50, 50, **{"iteration": 0, "seed": 0, "stage": "stage1", **other})  # type: ignore[arg-type]

    orders = [epoch(), epoch(iteration=1), epoch(seed=1), epoch(stage="stage2")]
    assert len({tuple(order) for order in orders}) == 4
    assert epoch() == orders[0]
    assert draw(10, 4, iteration=0, seed=0, stage="stage1") == [5, 8, 6, 1]  # the same in a year


def test_sampling_seeds_differ() -> None:
    seeds = {
        sampling_seed(seed=seed, stage=stage, iteration=iteration)
        for seed in range(3)
        for stage in ("stage1", "stage2")
        for iteration in range(50)
    }
    assert len(seeds) == 300
    assert all(0 <= seed < 2**53 for seed in seeds)
