"""A user's reward set that fails in training: what was sampled is kept, and used once the set is fixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher.errors import PipelineError
from r1_searcher.training.workbench import Workbench

ONE: dict[str, Any] = {"s1": {"stage": "stage1", "prev": "data/base_model", "iterations": 3, "iteration_offset": 0}}
MINE = """from r1_searcher.extend import reward_set

@reward_set("mine")
def mine(case):
    return {"length": VALUE}
"""


def test_rollouts_outlive_a_reward_set_that_raises(project: Callable[..., Path]) -> None:
    place = project("own", ONE)
    mine = place / "mine.py"
    settings = yaml.safe_load((place / "params.yaml").read_text(encoding="utf-8"))
    settings |= {"extensions": ["mine.py"], "reward": {"set": "mine", "answer_metric": "f1"}}
    (place / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    mine.write_text(MINE.replace("VALUE", "1 / 0"), encoding="utf-8")
    bench = Workbench("s1")
    rollouts = bench.rollout(0)
    with pytest.raises(PipelineError, match=r"^mine\.py, line 5, trajectory \S+: the reward set 'mine' raised ZeroDiv"):
        bench.reward(0, rollouts.path)
    assert list((place / ".store").glob("rewards/??/*")) == []
    mine.write_text(MINE.replace("VALUE", "len(case.policy_text)"), encoding="utf-8")
    again = Workbench("s1")
    found = again.rollout(0)
    assert found.stored and found.path == rollouts.path
    assert again.reward(0, found.path).figures["component_length"] > 0
    mine.write_text(MINE.replace("VALUE", "0.0"), encoding="utf-8")
    assert Workbench("s1").reward(0, found.path).figures["component_length"] == 0  # another file, other rewards


def test_a_stage_that_the_set_lacks_is_said_before_anything_is_sampled(project: Callable[..., Path]) -> None:
    place = project("lacks", ONE)
    settings = yaml.safe_load((place / "params.yaml").read_text(encoding="utf-8"))
    settings["reward"] = {"set": "released-base", "answer_metric": "f1"}
    (place / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(PipelineError, match="the reward set released-base has no stage 1"):
        Workbench("s1").check_before()
