"""The environment as an OpenEnv server and its client (openenv-core)."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Any

from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from r1_searcher.environments.core import Question, SearchEnvironment


class SearchAction(Action):
    """A turn of the policy, with the stop string that ended it."""

    text: str
    truncated: bool = False


class SearchObservation(Observation):
    """``text`` is the prompt after a reset, then the documents to insert; ``reward`` is there at the end."""

    text: str = ""
    finish_reason: str = ""


class SearchState(State):
    """The question that is asked, and the transcript so far."""

    question_id: str = ""
    transcript: str = ""


class SearchServerEnvironment(Environment[SearchAction, SearchObservation, SearchState]):
    """Episodes over a list of questions: drawn by ``seed``, or named by ``question_id`` when it is reset."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, environment: SearchEnvironment, questions: Sequence[Question]) -> None:
        super().__init__()
        self._environment, self._questions = environment.another(), list(questions)
        self._by_id = {str(one.get("question_id")): one for one in self._questions}
        self._state = SearchState()

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        *,
        question_id: str | None = None,
        **_: Any,
    ) -> SearchObservation:
        """Begin an episode. Raises ``KeyError`` for an unknown question."""
        drawn = random.Random(seed).choice(self._questions)
        question = drawn if question_id is None else self._by_id[question_id]
        prompt = self._environment.reset(question)
        self._state = SearchState(
            episode_id=episode_id or str(uuid.uuid4()), step_count=0, question_id=str(question.get("question_id"))
        )
        return SearchObservation(text=prompt)

    def step(self, action: SearchAction, timeout_s: float | None = None, **_: Any) -> SearchObservation:
        """Take a turn."""
        step = self._environment.step(action.text, truncated=action.truncated)
        self._state.step_count += 1
        self._state.transcript = self._environment.text
        reward = self._environment.reward() if step.done else None
        return SearchObservation(text=step.documents, done=step.done, reward=reward, finish_reason=step.finish_reason)

    @property
    def state(self) -> SearchState:
        """The episode so far."""
        return self._state


def create_app(environment: SearchEnvironment, questions: Sequence[Question], *, sessions: int = 8) -> Any:
    """Return a FastAPI application that serves the environment to ``sessions`` clients at once."""
    return create_fastapi_app(
        lambda: SearchServerEnvironment(environment, questions),
        SearchAction,
        SearchObservation,
        max_concurrent_envs=sessions,
    )


class SearchClient(EnvClient[SearchAction, SearchObservation, SearchState]):
    """The client of such a server: ``with SearchClient(base_url=…) as client: client.reset(seed=0)``."""

    def _step_payload(self, action: SearchAction) -> dict[str, Any]:
        return dict(action.model_dump())

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[SearchObservation]:
        done, reward = payload.get("done", False), payload.get("reward")
        seen = SearchObservation(**{**payload["observation"], "done": done, "reward": reward})
        return StepResult(observation=seen, reward=reward, done=done)

    def _parse_state(self, payload: dict[str, Any]) -> SearchState:
        return SearchState(**payload)
