"""The probe that accompanies a policy: which parts of it count."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tiny_policy import params_with, random_engine, tokenizer, write_policy

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_table
from r1_searcher.model_folders import load_model
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.training import handover
from r1_searcher.types.protocols import Engine

QUESTIONS = [f"Where was person {number} born?" for number in range(9)]


def test_the_likeliest_quarter_counts() -> None:
    masks = [[False, True, True, False, True], [False, True]]
    kept, values = handover.likeliest(masks, [[-9.0, -1.0, -2.0], [-3.0]])
    assert kept == [[False, False, True, False, False], [False, False]] and values == [[-1.0], []]
    equal = handover.likeliest(masks, [[-1.0, -1.0, -1.0], [-1.0]])
    assert equal == (masks, [[-1.0, -1.0, -1.0], [-1.0]])


def test_what_is_no_number_is_not_left_out() -> None:
    kept, values = handover.likeliest([[False, True, True]], [[-9.0, math.nan]])
    assert kept == [[False, True, True]] and math.isnan(values[0][1])


def test_the_first_probe_is_the_ends_of_a_few_prompts(tmp_path: Path) -> None:
    write_policy(tmp_path)
    token_ids, masks = handover.prompt_probe(tmp_path, params_with(rollout__prompt="base"), QUESTIONS)
    assert [len(ids) for ids in token_ids] == [handover.FIRST_TOKENS] * handover.FIRST_PROBES
    assert "person 3 born?" in tokenizer(True).decode(token_ids[3])
    assert all(mask == [False] + [True] * 63 for mask in masks)


class Scorer:
    """The trainer as far as a probe needs it: it scores as an engine does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        rows = zip(self.engine.score(token_ids, temperature=1.0), policy_mask, strict=True)
        return [[value for value, counts in zip(row, mask, strict=True) if counts] for row, mask in rows]


def test_an_engine_is_held_against_the_first_probe(tmp_path: Path) -> None:
    write_policy(tmp_path)
    params = params_with(rollout__prompt="base", rollout__temperature=1.0)
    engine = TransformersEngine(load_model(tmp_path, dtype="float32"), tokenizer(True))
    handover.write(tmp_path, Scorer(engine), handover.prompt_probe(tmp_path, params, QUESTIONS), given=True)  # type: ignore[arg-type]
    table = read_table(tmp_path / handover.PROBE)
    counted = sum(sum(mask) for mask in table["policy_mask"].to_pylist())
    assert counted == pytest.approx(handover.FIRST_PROBES * 63 / 4, abs=handover.FIRST_PROBES)
    assert np.concatenate(table["logprobs"].to_pylist()).size == counted
    handover.check(engine, tmp_path / handover.PROBE, params)
    with pytest.raises(PipelineError, match="does not have the trainer's weights"):
        handover.check(random_engine(), tmp_path / handover.PROBE, params)
