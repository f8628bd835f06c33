"""Rollouts for TRL's GRPOTrainer: a ``rollout_func`` that samples as training here does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.forms.questions import messages_of, to_trl
from r1_searcher.params import Params
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.rollout import roll_out
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Engine, Retriever

RolloutFunction = Callable[[list[Any], Any], dict[str, list[Any]]]


def dataset_of(questions: pa.Table, params: Params) -> Any:
    """Return questions (schema QUESTIONS) as a dataset with TRL's column ``prompt``."""
    from datasets import Dataset

    table = to_trl(questions, prompt_of(params.rollout), conversational=False)
    return Dataset.from_list(table.select(["prompt", "question_id"]).to_pylist())


def rollout_function(
    engine: Engine, retriever: Retriever, questions: pa.Table, params: Params, *, stage: int = 2
) -> RolloutFunction:
    """Return a function for ``GRPOTrainer(rollout_func=…)``; pass ``search_reward`` as its reward function.

    Before each batch the engine gets the trainer's weights. Documents and forced text are masked (``env_mask``), and
    their log-probabilities are 0. ``questions``: all that the trainer may ask. Raises ``PipelineError`` for an engine
    that takes no weights from memory.
    """
    if not hasattr(engine, "load_state"):
        raise PipelineError(
            f"the engine {engine.name} takes no weights from memory", where="rollout.engine", fix="choose transformers"
        )
    take: Callable[[dict[str, Any]], None] = engine.load_state
    prompt = prompt_of(params.rollout)
    by_prompt: dict[Any, dict[str, Any]] = {}
    for question in questions.to_pylist():
        chat = prompt.is_chat
        key = str(messages_of(prompt, question["question"])) if chat else prompt.render(question["question"])
        by_prompt[key] = question

    def roll(prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        weights = dict(trainer.accelerator.unwrap_model(trainer.model).named_parameters())
        take({name: tensor.detach() for name, tensor in weights.items()})
        # One row per prompt, each with draws of its own: ids are made unique, and the seed moves with the step.
        asked = [by_prompt[one if isinstance(one, str) else str(one)] for one in prompts]
        rows = [{**one, "question_id": f"{one['question_id']}#{number}"} for number, one in enumerate(asked)]
        table, _ = roll_out(
            engine,
            retriever,
            pa.Table.from_pylist(rows, schema=questions.schema),
            params.rollout,
            samples=1,
            seed=params.seed + trainer.state.global_step,
        )
        rewards = reward_table(table, params.reward, stage)
        return {**tokens_of(table), "search_reward": rewards["total"].to_pylist()}

    return roll


def tokens_of(rollouts: pa.Table) -> dict[str, list[list[Any]]]:
    """Return rollouts as TRL's lists per trajectory: prompt_ids, completion_ids, logprobs and env_mask (1: the policy's
    own token)."""
    found: dict[str, list[list[Any]]] = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "env_mask": []}
    for row in rollouts.select(["token_ids", "token_source", "policy_logprobs"]).to_pylist():
        sources: Sequence[int] = row["token_source"]
        length = sum(source == grammar.PROMPT for source in sources)
        logprobs = iter(row["policy_logprobs"])
        own = [source == grammar.POLICY for source in sources[length:]]
        found["prompt_ids"].append(row["token_ids"][:length])
        found["completion_ids"].append(row["token_ids"][length:])
        found["logprobs"].append([next(logprobs) if mine else 0.0 for mine in own])
        found["env_mask"].append([int(mine) for mine in own])
    return found


def search_reward(completions: Sequence[Any], search_reward: Sequence[float], **_: Any) -> list[float]:
    """The reward of training, which ``rollout_function`` computed."""
    return list(search_reward)
