"""The transformers engine: its log-probabilities are the model's, whatever happens to the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_jobs import GREEDY, SAMPLING, STOPS, Job, jobs, run
from tiny_policy import forward_logprobs, random_engine, random_model, tokenizer

import r1_searcher.rollout.engine
from r1_searcher.errors import PipelineError
from r1_searcher.rollout import load_engine
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Engine, Sampling


@pytest.fixture(params=[2, 8, r1_searcher.rollout.engine.PREFILL_ALONE])
def apart(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of pending tokens from which a row is prefilled in a separate pass."""
    monkeypatch.setattr(r1_searcher.rollout.engine, "PREFILL_ALONE", request.param)
    return int(request.param)


@pytest.mark.slow
@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("tags_are_tokens", [True, False])
@pytest.mark.parametrize(
    "sampling",
    [SAMPLING, GREEDY, Sampling(temperature=0.7, top_p=0.9, max_turn_tokens=20, max_total_tokens=200)],
    ids=["sampled", "greedy", "cooler"],
)
def test_logprobs_are_those_of_a_plain_forward(tags_are_tokens: bool, sampling: Sampling) -> None:
    engine = random_engine(tags_are_tokens)
    made = run(engine, jobs(), sampling)
    assert len({len(one.ids) for one in made}) > 6 and max(len(one.lengths) for one in made) > 2  # nothing is uniform
    for one in made:
        expected = forward_logprobs(engine, one.ids, sampling.temperature or 1.0)
        for place, value in one.logprobs:
            assert abs(value - float(expected[place])) <= 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("sampling", [SAMPLING, GREEDY], ids=["sampled", "greedy"])
def test_a_trajectory_is_the_same_whichever_others_share_its_batch(sampling: Sampling) -> None:
    engine, chosen = random_engine(), jobs()
    together = run(engine, chosen, sampling)
    for number, one in enumerate(together):
        alone = run(engine, [chosen[number]], sampling)[0]
        assert (alone.ids, alone.stops) == (one.ids, one.stops)
        np.testing.assert_allclose([v for _, v in alone.logprobs], [v for _, v in one.logprobs], atol=1e-5)
    turned = run(engine, chosen[::-1], sampling)[::-1]
    assert [one.ids for one in turned] == [one.ids for one in together]


def test_the_seed_alone_makes_the_difference() -> None:
    engine, (job, *_) = random_engine(), jobs()
    ids = [one.ids for one in run(engine, [job, job, Job(job.prompt, job.seed + 99, job.documents)])]
    assert ids[0] == ids[1] != ids[2]
    assert run(engine, [job])[0] == run(engine, [job])[0]  # bitwise, log-probabilities too


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record rows and tokens of each pass of ``random_engine``."""
    shapes: list[tuple[int, int]] = []
    model: Any = random_engine()._model.base_model
    forward = model.forward

    def spy(*args: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        rows, tokens = input_ids.shape
        shapes.append((rows, tokens))
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model, "forward", spy)
    return shapes


def test_every_token_is_read_once_and_finished_rows_leave(read: list[tuple[int, int]]) -> None:
    """No padding, no second prefill of a prefix: the model reads the tokens, all but each row's last."""
    engine = random_engine()
    made = run(engine, jobs())
    assert sum(rows * columns for rows, columns in read) == sum(len(one.ids) - 1 for one in made)
    rows = [rows for rows, _ in read]
    assert rows[0] == len(made) and rows == sorted(rows, reverse=True) and rows[-1] == 1
    assert read[0][1] == min(len(job.prompt) for job in jobs())  # the shortest prompt in one pass

    read.clear()
    (alone,) = run(engine, [jobs()[3]])
    assert len(read) == len(alone.logprobs)  # a lone row prefills its documents in one pass, with the next token
    assert max(columns for _, columns in read[1:]) > 1


def test_a_shared_prompt_and_long_documents_are_read_in_passes_of_their_own(read: list[tuple[int, int]]) -> None:
    engine = random_engine()
    prompt, document = [5, 6, 7] * 24, [9, 8] * 40
    chosen = [Job(prompt, 1, []), Job(prompt, 2, [document]), Job([4] * 3, 3, []), Job(prompt, 4, [document])]
    made = run(engine, chosen, Sampling(temperature=1.0, top_p=1.0, max_turn_tokens=20, max_total_tokens=400))
    assert [len(one.lengths) for one in made] == [1, 2, 1, 2]
    assert read[0] == (1, len(prompt))  # once for three rows
    assert [shape for shape in read[1:] if shape[0] == 1 and shape[1] > len(document)] == [(1, len(document) + 1)] * 2
    assert sum(rows * tokens for rows, tokens in read) == sum(len(one.ids) - 1 for one in made) - 2 * len(prompt)
    assert len(read) < 70  # not one pass per document token
    for one, job in zip(made, chosen, strict=True):
        (alone,) = run(engine, [job], Sampling(1.0, 1.0, 20, 400))
        assert alone.ids == one.ids
        np.testing.assert_allclose([v for _, v in alone.logprobs], [v for _, v in one.logprobs], atol=1e-5)


def test_positions_that_depend_on_a_sequences_length_are_refused_where_that_would_matter() -> None:
    engine = TransformersEngine(random_model(), tokenizer(True))
    engine._model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    engine._model.config.max_position_embeddings = 199
    with pytest.raises(PipelineError, match="above 199 tokens this model's rotary positions depend on the length"):
        engine.start(SAMPLING, STOPS)
    engine._model.config.max_position_embeddings = 200
    engine.start(SAMPLING, STOPS)


def test_weights_that_are_no_numbers_end_sampling_in_one_line() -> None:
    engine = TransformersEngine(random_model(), tokenizer(True))
    engine.start(SAMPLING, STOPS)
    engine.add(0, [1, 2, 3], 0)
    engine._model.lm_head.weight.data[5, 1] = float("nan")
    with pytest.raises(PipelineError, match="the policy's logits are not numbers"):
        engine.step()


def test_limits_are_exact() -> None:
    engine = random_engine()
    chosen = [Job([5] * length, 1, []) for length in (1, 7, 48, 49)]
    sampling = Sampling(temperature=1.0, top_p=1.0, max_turn_tokens=9, max_total_tokens=50)
    made = run(engine, chosen, sampling, stops=["no such text"])
    ended = [(one.stops, one.lengths) for one in made]
    for (stops, lengths), job in zip(ended, chosen, strict=True):
        room = min(9, 50 - len(job.prompt))
        if stops == [grammar.FINISH_END_OF_TEXT]:
            assert lengths[0] <= room
        else:
            assert lengths == [room]
            assert stops == [grammar.FINISH_LENGTH_LIMIT if room < 9 else grammar.FINISH_TURN_LIMIT]
    assert {stops[0] for stops, _ in ended} >= {grammar.FINISH_LENGTH_LIMIT, grammar.FINISH_TURN_LIMIT}


def test_the_end_token_ends_a_turn_and_is_a_policy_token(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(random_model(), tokenizer(True))
    end = tokenizer(True).eos_token_id
    engine._model.lm_head.bias.data[end] = 50.0
    (made,) = run(engine, [Job([1, 2], 0, [])])
    assert (made.stops, made.ids) == ([grammar.FINISH_END_OF_TEXT], [1, 2, end])


@pytest.mark.slow
def test_weights_are_taken_from_memory_and_from_a_folder(tmp_path: Path) -> None:
    from tiny_policy import rollout_params
    from transformers import Qwen2ForCausalLM

    config = random_model().config
    config.tie_word_embeddings = True
    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
        folders.append(tmp_path / f"policy{seed}")
        model.save_pretrained(folders[-1])
        tokenizer(True).save_pretrained(folders[-1])
    first, second = (load_engine(folder, rollout_params()) for folder in folders)
    expected = run(second, jobs())
    assert run(first, jobs()) != expected
    first.load_weights(folders[1])
    assert run(first, jobs()) == expected
    third: Any = load_engine(folders[0], rollout_params())
    third.load_state(dict(model.named_parameters()))
    assert run(third, jobs()) == expected
    with pytest.raises(AssertionError, match="weights lack"):
        third.load_state({"lm_head.weight": torch.zeros(1)})


def test_the_order_of_calls_is_held() -> None:
    engine = random_engine()
    engine.start(SAMPLING, STOPS)
    assert engine.step() == []
    engine.add(0, [1, 2, 3], 0)
    with pytest.raises(AssertionError, match="no ended turn"):
        engine.release(0)
    assert engine.step()
    with pytest.raises(AssertionError, match="neither extended nor released"):
        engine.step()
    with pytest.raises(AssertionError, match="before the first step"):
        engine.add(1, [1], 0)
    engine.release(0)
    assert engine.step() == []


@pytest.mark.parametrize("tags_are_tokens", [True, False])
def test_text_comes_back_with_its_special_tokens(tags_are_tokens: bool) -> None:
    engine = random_engine(tags_are_tokens)
    text = f" Zoë ,  said\n\n{grammar.QUERY} x {grammar.END_QUERY}<|endoftext|> ."
    ids = engine.encode(text)
    assert engine.decode(ids) == text
    assert engine.encode("Ada") == tokenizer(tags_are_tokens).encode("Ada", add_special_tokens=False)
    assert isinstance(engine, Engine)
