"""Checks before the first iteration: ids, groups, prompts, windows, a base policy that does nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files.window import check_window, positions
from r1_searcher.models.base_metrics import nothing_to_reward
from r1_searcher.params.segments import least_questions
from r1_searcher.training import preflight

SETTINGS = params.shipped()


class Words:
    """A word tokenizer; one of its tokens is special."""

    class Special(str):
        special = True

    added_tokens_decoder: ClassVar = {7: Special("<|tool|>")}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [1] * len(text.split())


def asked(*texts: str) -> list[dict[str, Any]]:
    return [{"question_id": f"q{number}", "question": text} for number, text in enumerate(texts)]


def look(*texts: str, room: int = 10, turn: int = 4) -> list[str]:
    rollout = SETTINGS.rollout.model_copy(update={"max_total_tokens": room, "max_turn_tokens": turn})
    return preflight.check_prompts(
        asked(*texts), lambda text: f"{text} <think>", Words(), rollout, where="train.parquet"
    )


def test_prompts_that_fit_say_nothing() -> None:
    assert look("who was it", "and where") == []
    assert look() == []


def test_a_prompt_without_room_stops_with_its_name_and_length() -> None:
    with pytest.raises(PipelineError, match=r"1 of 2 questions leave no room in 10 tokens: q1; .*of q1, has 10"):
        look("who", "w " * 9)


def test_a_prompt_that_leaves_less_than_a_turn_is_a_warning() -> None:
    (line,) = look("who", "w " * 6)
    assert "1 of 2 questions in train.parquet leave less room than one turn" in line


def test_an_evaluation_that_would_stop_is_said_before_training() -> None:
    rollout = SETTINGS.rollout.model_copy(update={"max_total_tokens": 10})
    look_at = ((lambda text: f"{text} <think>"), Words(), rollout)
    assert preflight.evaluation_would_stop(asked("who", "where"), *look_at, where="held_out.parquet") == []
    (line,) = preflight.evaluation_would_stop(asked("who", "w " * 9), *look_at, where="held_out.parquet")
    assert "evaluation will stop at held_out.parquet: the prompts of 1 of 2 questions leave no room in" in line
    assert line.endswith("10: q1; take them out of the file")


def test_a_special_token_in_a_question_stops() -> None:
    with pytest.raises(PipelineError, match="1 questions contain a special token of the policy's tokenizer: q1"):
        look("who", "what is <|tool|>")


def test_ids_that_occur_twice_stop() -> None:
    preflight.check_ids(["a", "b"], "x")
    with pytest.raises(PipelineError, match=r"x: 1 question ids occur more than once: a "):
        preflight.check_ids(["a", "b", "a"], "x")


def test_groups_of_one_stop() -> None:
    stage = SETTINGS.train.stage1
    update = SETTINGS.update
    preflight.check_groups(stage, "stage1", update)
    with pytest.raises(PipelineError, match=r"stage1\.samples_a_question: one sample per question trains nothing"):
        preflight.check_groups(stage.model_copy(update={"samples_a_question": 1}), "stage1", update)


@pytest.mark.parametrize(
    "config",
    [{"max_position_embeddings": 64}, {"text_config": {"max_position_embeddings": 64}}],
    ids=["plain", "parts"],
)
def test_trajectories_longer_than_the_model_stop(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_window(tmp_path, 64)
    with pytest.raises(PipelineError, match=r"65 tokens, but the model has max_position_embeddings 64 .*at most 64"):
        check_window(tmp_path, 65)


def test_a_model_without_positions_has_no_limit(tmp_path: Path) -> None:
    check_window(tmp_path, 10**9)
    assert positions({"alibi": True}) is None


def test_a_base_policy_that_never_searches_is_warned_of() -> None:
    fine = {"n": 512, "search_rate": 0.002, "format_rate": 0.3}
    assert nothing_to_reward({"greedy": fine, "sampled": fine}) == []
    (line,) = nothing_to_reward({"sampled": {**fine, "search_rate": 0.0}})
    assert "searched in 0 of 512 samples" in line
    assert len(nothing_to_reward({"sampled": {**fine, "search_rate": 0.0, "format_rate": 0.0}})) == 2


def test_an_iteration_asks_at_most_what_its_stages_say() -> None:
    train = SETTINGS.train
    stage = train.stage2.model_copy(update={"questions_an_iteration": 99})
    segments = {
        **train.segments,
        "mixed": train.segments["s2-00"].model_copy(update={"questions": "data/mixes/x.parquet"}),
    }
    assert least_questions(train.model_copy(update={"stage2": stage, "segments": segments})) == {"train": 99}
