"""The environment itself: a question begins an episode, a turn of the policy gets documents or ends it.

    environment = SearchEnvironment.open(params, policy=..., index=..., stage=2)
    prompt = environment.reset(question)
    step = environment.step("… <|begin_of_query|> who directed X <|end_of_query|>")
    step.documents    # what is inserted before the policy goes on; or step.done, and then:
    environment.reward()

Transcripts and rewards are those of training: the same tools, blocks, limits, columns and reward sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.rollout.codec import Codec
from r1_searcher.rollout.prompt import Prompt, prompt_of
from r1_searcher.rollout.toolbox import Toolbox
from r1_searcher.rollout.trajectory import Trajectory
from r1_searcher.tools.protocol import SEARCH, Call
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Segment
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Retriever, ToolError

Question = Mapping[str, Any]  # question, answers, and possibly question_id


@dataclass(frozen=True)
class StepResult:
    """What a turn leads to: ``documents`` to insert (empty at the end), whether the episode is ``done``, and then why
    (one of the grammar's finish reasons)."""

    documents: str
    done: bool
    finish_reason: str = ""


class _Texts:
    """As much of an engine as tools need to cut passages: its tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.codec = tokenizer, Codec(tokenizer)
        self.encode, self.decode = self.codec.encode, self.codec.decode


class SearchEnvironment:
    """One episode at a time; several environments may share retriever and tokenizer.

    Args:
        params: sections ``rollout`` and ``reward``.
        retriever: see ``r1_searcher.retrieval.open_retriever``.
        tokenizer: the policy's. Limits count its tokens, and passages are cut by them.
        stage: of the recipe's rewards, 1 or 2.
    """

    def __init__(self, params: Params, retriever: Retriever, tokenizer: Any, *, stage: int = 2) -> None:
        self.params, self.stage = params, stage
        texts: Any = _Texts(tokenizer)  # tools use no more of an engine
        self._engine = texts
        self._prompt: Prompt = prompt_of(params.rollout)
        self._toolbox = Toolbox(retriever, self._engine, params.rollout)
        self._trajectory: Trajectory | None = None

    @classmethod
    def open(cls, params: Params, *, policy: Path, index: Path, stage: int = 2) -> SearchEnvironment:
        """Open the index with the retriever that the parameters choose, and the tokenizer of a policy folder."""
        from r1_searcher.model_folders import load_tokenizer
        from r1_searcher.retrieval import open_retriever

        return cls(params, open_retriever(params, index=index), load_tokenizer(policy), stage=stage)

    def another(self) -> SearchEnvironment:
        """Return an environment for an episode beside this one's, over the same retriever and tokenizer."""
        other = object.__new__(type(self))
        other.__dict__ |= {**self.__dict__, "_trajectory": None}
        return other

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings at which the policy's turn ends; they belong to the turn."""
        return self._toolbox.stops

    def reset(self, question: Question) -> str:
        """Begin an episode; return the prompt, which ends in ``<think>``.

        Raises ``PipelineError`` for a prompt that leaves no room for a token, and for a question without an answer.
        """
        if not question.get("answers"):
            raise PipelineError("the question has no gold answer", where=str(question.get("question_id", "question")))
        text = self._prompt.render(question["question"], self._engine.tokenizer)
        ids = self._engine.encode(text)
        if len(ids) >= self.params.rollout.max_total_tokens:
            raise PipelineError(f"the prompt has {len(ids)} tokens", where="rollout.max_total_tokens", fix="raise it")
        asked = {"question_id": "asked", **question, "answers": [*question["answers"]]}
        self._trajectory = Trajectory(asked, 0, 0, text, ids)
        self._trajectory.append(ids, grammar.PROMPT)
        return text

    @property
    def text(self) -> str:
        """The transcript so far, from behind the prompt."""
        return "".join(part.text for part in self._begun.segments)

    @property
    def finish_reason(self) -> str:
        """Why the episode ended; empty while it goes on."""
        return self._begun.finish_reason

    def step(self, text: str, *, token_ids: Sequence[int] | None = None, truncated: bool = False) -> StepResult:
        """Take a turn of the policy.

        Args:
            text: what it wrote, with the stop string that ended it; what is behind the first stop string is cut off,
                because the policy does not write its own documents.
            token_ids: the sampled tokens (N,); without them the text is encoded.
            truncated: the turn ended at a limit of tokens, and not by itself.
        """
        trajectory, rollout = self._begun, self.params.rollout
        if trajectory.finish_reason:
            raise PipelineError(f"the episode has ended: {trajectory.finish_reason}", fix="reset it")
        text, stop = _first_turn(text, self.stops)
        ids = list(self._engine.encode(text) if token_ids is None else token_ids)
        trajectory.append(ids, grammar.POLICY)
        trajectory.segments.append(Segment("policy", text))
        tool = self._toolbox.called(stop)
        if tool is None:
            full = len(trajectory.token_ids) >= rollout.max_total_tokens
            limit = grammar.FINISH_LENGTH_LIMIT if full else grammar.FINISH_TURN_LIMIT
            ended = limit if truncated else grammar.FINISH_END_OF_TEXT
            return self._end(grammar.FINISH_ANSWER if stop == grammar.END_ANSWER else ended)
        request = self._toolbox.request(tool, text)
        if not request:
            return self._end(grammar.FINISH_EMPTY_QUERY)
        if trajectory.calls(tool) >= self._toolbox.tools[tool].budget.calls:
            return self._end(grammar.FINISH_SEARCH_LIMIT if tool == SEARCH else grammar.FINISH_CALL_LIMIT)
        if isinstance(request, ToolError):
            answered = self._toolbox.record(Call(tool, ""), request)
        else:
            call = Call(tool, request, trajectory.shown)
            answered = self._toolbox.record(call, self._toolbox.find([call])[0])
        trajectory.turns.append(answered.record)
        if answered.block is None:
            return self._end(answered.failure)
        block = self._engine.encode(answered.block)
        if len(trajectory.token_ids) + len(block) >= rollout.max_total_tokens:
            return self._end(grammar.FINISH_LENGTH_LIMIT)
        trajectory.append(block, grammar.DOCUMENT)
        trajectory.segments.append(Segment("document", answered.block))
        trajectory.shown = answered.shown
        return StepResult(answered.block, False)

    def rollouts(self) -> pa.Table:
        """Return the episode as one row of rollouts.parquet (schema ROLLOUTS; without log-probabilities)."""
        table = pa.Table.from_pylist([self._begun.row()], schema=schemas.ROLLOUTS)
        if not self._toolbox.further:
            return table
        tools = [[dataclasses.asdict(one) for one in self._toolbox.further]]
        return table.append_column(schemas.TOOLS_FIELD, pa.array(tools, schemas.TOOLS_FIELD.type))

    def rewards(self) -> dict[str, Any]:
        """Return the episode's row of rewards.parquet: ``total`` and its components, EM, F1, violations, counts."""
        row: dict[str, Any] = reward_table(self.rollouts(), self.params.reward, self.stage).to_pylist()[0]
        return row

    def reward(self) -> float:
        """Return the episode's reward."""
        return float(self.rewards()["total"])

    @property
    def _begun(self) -> Trajectory:
        if self._trajectory is None:
            raise PipelineError("no episode has begun", fix="call reset with a question")
        return self._trajectory

    def _end(self, reason: str) -> StepResult:
        self._begun.finish_reason = reason
        return StepResult("", True, reason)


def with_stop(text: str, environment: SearchEnvironment) -> str:
    """Return a turn with the stop string that ended it, for servers that leave it out: the end of what is open last."""
    begins = {tool.begin: tool.end for tool in environment._toolbox.tools.values()} | {
        grammar.ANSWER: grammar.END_ANSWER
    }
    place, begin = max((text.rfind(begin), begin) for begin in begins)
    return text if place < 0 or begins[begin] in text[place:] else text + begins[begin]


def _first_turn(text: str, stops: Sequence[str]) -> tuple[str, str]:
    """Return the text up to and with its first stop string, and that string; all of it and "" without one."""
    found = [(text.find(stop), stop) for stop in stops if stop in text]
    if not found:
        return text, ""
    place, stop = min(found)
    return text[: place + len(stop)], stop
