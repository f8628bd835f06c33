"""Measure the base policy before reinforcement learning, greedy and sampled.

Greedy decoding hides what a policy can do: a base policy that searches in a fifth of its samples never searches
greedily. Both are reported (metrics/base_model.json).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.lost import LostQuestions
from r1_searcher.files.artefacts import read_table
from r1_searcher.progress import Paced
from r1_searcher.questions.cut_answers import cut_answers, may_search
from r1_searcher.questions.prompt_lengths import too_long
from r1_searcher.retrieval import open_retriever
from r1_searcher.rewards.columns import calls_in
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.rollout import load_engine, roll_out
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Engine, tokenizer_of


def measure(
    settings: params.Params, policy: Path, questions: Path, index: Path, training: Path
) -> dict[str, dict[str, float]]:
    """Return rates over the first ``measure_questions`` validation questions: {greedy: …, sampled: …}.

    Adds ``cut_answers`` if any of the training questions (``training``) lose their answer because passages are
    truncated: counts (``r1_searcher.questions.cut_answers``). Trajectories ``lost`` to failed searches or tools count
    as wrong, up to ``evaluate.max_error_share``.
    """
    import torch

    torch.set_num_threads(settings.threads)
    asked = read_table(questions, schemas.QUESTIONS).slice(0, settings.base_model.measure_questions)
    retriever = open_retriever(settings, index=index)
    engine = load_engine(policy, settings.rollout)
    if settings.questions.too_long == "leave_out":
        asked = _that_fit(asked, engine, settings.rollout)
    found: dict[str, dict[str, float]] = {}
    for name, samples in (("greedy", 1), ("sampled", settings.base_model.measure_samples)):
        chosen: dict[str, Any] = {"samples": samples, "seed": settings.seed, "greedy": name == "greedy"}
        with Paced(f"base policy, {name}", unit="trajectories") as paced:
            rollouts, _ = roll_out(engine, retriever, asked, settings.rollout, told=paced.told, **chosen)
        lost = LostQuestions(len(rollouts), settings.evaluate.max_error_share, "trajectories").count(rollouts)
        rewards = reward_table(rollouts, settings.reward, None)
        searches = rewards["num_searches"].to_numpy()
        found[name] = {
            "n": len(rewards),
            **({"lost": lost} if lost else {}),
            "search_rate": float((searches > 0).mean()),
            "searches_per_question": float(searches.mean()),
            "format_rate": float(rewards["format_right"].to_numpy(zero_copy_only=False).mean()),
            "em": float(rewards["em"].to_numpy().mean()),
            "f1": float(rewards["f1"].to_numpy().mean()),
            "cover_em": float(rewards["cover_em"].to_numpy().mean()),
            **{calls: float(rewards[calls].to_numpy().mean()) for calls in calls_in(rewards.column_names)},
        }
    if may_search(settings.retriever):
        cut = cut_answers(read_table(training, schemas.QUESTIONS), retriever, engine, settings.rollout)
        if cut["num_lost"]:
            found["cut_answers"] = dict(cut)
    return found


def _that_fit(asked: pa.Table, engine: Engine, rollout: params.Rollout) -> pa.Table:
    """Return the questions (QUESTIONS) whose prompt leaves room. Raises ``PipelineError`` if there are none."""
    prompt, tokenizer = prompt_of(rollout), tokenizer_of(engine)
    rows = asked.select(["question_id", "question"]).to_pylist()
    long = too_long(rows, lambda text: prompt.render(text, tokenizer), tokenizer, rollout.max_total_tokens)
    if len(long) == len(rows):
        raise PipelineError(
            f"all {len(rows)} questions are too long, and left out (questions.too_long)",
            where="rollout.max_total_tokens",
            fix="raise it, or choose a shorter rollout.prompt",
        )
    return asked.filter([row["question_id"] not in long for row in rows])
