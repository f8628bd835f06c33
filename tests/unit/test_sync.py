"""The check after each synchronisation: an engine whose weights differ from the trainer's is detected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policy import forward_logprobs, random_engine, random_model, tokenizer, write_policy

from r1_searcher.errors import PipelineError
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.rollout.sync import Gap, check_sync, tolerance

PROBES = [[5, 9, 40, 41, 7, 120, 3], [8, 300], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]
MASKS = [[False] + [place % 3 > 0 for place in range(1, len(ids))] for ids in PROBES]


def under(engine: TransformersEngine, temperature: float = 1.0) -> list[list[float]]:
    """Return a correct trainer's log-probabilities of the probes' policy tokens."""
    scores = [forward_logprobs(engine, ids, temperature).tolist() for ids in PROBES]
    return [[v for v, kept in zip(s, mask, strict=True) if kept] for s, mask in zip(scores, MASKS, strict=True)]


def with_(change: Callable[[Any], None]) -> TransformersEngine:
    """Return an engine like ``random_engine`` with some other weights."""
    model = random_model()
    with torch.no_grad():
        change(model)
    return TransformersEngine(model, tokenizer(True))


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_scores_are_those_of_a_plain_forward(monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    monkeypatch.setattr("r1_searcher.rollout.sampling.HEAD_POSITIONS", 5)  # a sequence in several parts
    engine = random_engine()
    for ids, found in zip(PROBES, engine.score(PROBES, temperature=temperature), strict=True):
        assert found[0] == 0 and len(found) == len(ids)
        assert found == pytest.approx(forward_logprobs(engine, ids, temperature or 1.0).tolist(), abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_trainers_weights_pass(temperature: float) -> None:
    engine = random_engine()
    allowed = tolerance("float32", temperature)
    gap = check_sync(engine, PROBES, MASKS, under(engine, temperature), temperature=temperature, allowed=allowed)
    assert 0 < gap.largest < 1e-4 and gap.mean <= gap.largest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_weights_are_caught(dtype: str) -> None:
    trainer = random_engine()
    for change in (
        lambda model: model.load_state_dict(random_model(seed=1).state_dict()),
        lambda model: model.lm_head.weight.copy_(random_model(seed=1).lm_head.weight),  # a tied head left behind
        lambda model: model.model.layers[1].mlp.down_proj.weight.zero_(),  # a name that a loader skipped
        lambda model: model.model.norm.weight.fill_(float("nan")),
    ):
        with pytest.raises(PipelineError, match="does not have the trainer's weights: over 13 tokens"):
            check_sync(with_(change), PROBES, MASKS, under(trainer), temperature=1.0, allowed=tolerance(dtype, 1.0))


def test_one_small_update_is_caught_in_float32() -> None:
    late = with_(lambda model: model.model.layers[0].mlp.up_proj.weight.mul_(1.01))
    with pytest.raises(PipelineError, match="does not have"):
        check_sync(late, PROBES, MASKS, under(random_engine()), temperature=1.0, allowed=tolerance("float32", 1.0))


def test_tolerances() -> None:
    assert tolerance("float32", 0.5) == Gap(2e-4, 4e-3) and tolerance("float32", 0) == tolerance("float32", 1)
    assert tolerance("bfloat16", 1.0).mean > 100 * tolerance("float32", 1.0).mean
    with pytest.raises(PipelineError, match="no tolerance is known for int8"):
        tolerance("int8", 1.0)
    assert not Gap(float("nan"), 0).within(Gap(1, 1))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    write_policy(tmp_path)
    engine = TransformersEngine(random_model(), tokenizer(True))
    before = engine.score(PROBES, temperature=1.0)
    with pytest.raises(PipelineError, match=r"of another architecture: \d+ weights have no counterpart of their shape"):
        engine.load_weights(tmp_path)
    assert engine.score(PROBES, temperature=1.0) == before
