"""The environment for verifiers: ``verifiers.load_environment("r1_searcher.environments.for_verifiers")``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import verifiers as vf
from datasets import Dataset

from r1_searcher import params as contract
from r1_searcher.environments.core import SearchEnvironment, with_stop
from r1_searcher.files.artefacts import read_table
from r1_searcher.types.schemas import QUESTIONS

_EPISODE = "r1_searcher"  # in a rollout's state


class SearchVerifiersEnvironment(vf.MultiTurnEnv):
    """A text-completion environment: the server continues the prompt and the transcript, turn by turn.

    vLLM returns the stop string with the turn, as ``include_stop_str_in_output`` asks; servers that leave it out are
    helped.
    """

    def __init__(self, environment: SearchEnvironment, questions: Any, **more: Any) -> None:
        asked, any_one = questions.select(["question_id", "question", "answers"]).to_pylist(), environment.another()
        rows = [{"prompt": any_one.reset(one), "answer": one["answers"][0], "info": one} for one in asked]
        sampling = {
            "stop": list(environment.stops),
            "max_tokens": environment.params.rollout.max_turn_tokens,
            "extra_body": {"include_stop_str_in_output": True},
            **more.pop("sampling_args", {}),
        }
        rubric = vf.Rubric(funcs=[search_reward], weights=[1.0])
        for metric in (em, f1, searches):
            rubric.add_metric(metric)
        super().__init__(
            dataset=Dataset.from_list(rows),
            message_type="completion",
            rubric=rubric,
            sampling_args=sampling,
            **more,
        )
        self._environment = environment

    async def setup_state(self, state: Any) -> Any:
        """Begin the episode of a rollout."""
        state[_EPISODE] = self._environment.another()
        state[_EPISODE].reset(state["info"])
        return state

    async def env_response(self, messages: Any, state: Any, **_: Any) -> Any:
        """Return the documents of the turn's search; at the end of the episode nothing, and the rollout ends."""
        turn = state["trajectory"][-1]
        episode: SearchEnvironment = state[_EPISODE]
        text = turn["completion"] if turn["is_truncated"] else with_stop(turn["completion"], episode)
        missing = text[len(turn["completion"]) :]
        step = await asyncio.to_thread(episode.step, text, truncated=turn["is_truncated"])
        if step.done:
            state["final_env_response"] = missing
        return missing + step.documents


def search_reward(state: Any, **_: Any) -> float:
    """The reward of training."""
    return float(state[_EPISODE].reward())


def em(state: Any, **_: Any) -> float:
    """Exact match of the answer."""
    return float(state[_EPISODE].rewards()["em"])


def f1(state: Any, **_: Any) -> float:
    """F1 of the answer."""
    return float(state[_EPISODE].rewards()["f1"])


def searches(state: Any, **_: Any) -> float:
    """The number of successful searches."""
    return float(state[_EPISODE].rewards()["num_searches"])


def load_environment(
    questions: str = "data/questions/train.parquet",
    index: str = "data/index",
    policy: str = "data/base_model",
    params_file: str = "params.yaml",
    stage: int = 2,
    **more: Any,
) -> vf.Environment:
    """Return the environment over a file of questions; ``more`` goes to verifiers."""
    params = contract.load_or_shipped(params_file)
    environment = SearchEnvironment.open(params, policy=Path(policy), index=Path(index), stage=stage)
    return SearchVerifiersEnvironment(environment, read_table(questions, QUESTIONS), **more)
