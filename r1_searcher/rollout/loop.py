"""Rollout: sample trajectories from questions (paper section 3.1).

The loop is the policy's environment. It renders the prompt, cuts the request out of a turn that calls a tool (usually
search), calls the tool, neutralises and inserts the passages, and records who wrote each token. It does not know which
engine samples or which tool searches.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.progress import Told, nobody
from r1_searcher.rollout import ircot, turns
from r1_searcher.rollout.prompt import Prompt, prompt_of
from r1_searcher.rollout.toolbox import Toolbox
from r1_searcher.rollout.trajectory import Trajectory
from r1_searcher.rollout.turn_handlers import Answered, TurnHandler
from r1_searcher.tools.protocol import SEARCH, Call
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Mode, Segment
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Engine, Retriever, Sampling, ToolError, Turn, tokenizer_of

# all made before the policy writes; the policy itself may not search
BASELINE_SEARCHES = {"no_search": 0, "plain_rag": 1}


def roll_out(
    engine: Engine,
    retriever: Retriever,
    questions: pa.Table,
    rollout: params.Rollout,
    *,
    samples: int,
    seed: int,
    greedy: bool = False,
    mode: Mode = "search",
    told: Told = nobody,
) -> tuple[pa.Table, dict[str, float]]:
    """Sample ``samples`` trajectories per question (paper section 3.1); calls ``told`` with the number finished and the
    total.

    ``questions``: N rows with ``question_id``, ``question`` and ``answers``. ``seed`` and the question's id determine a
    trajectory's draws, whatever else is sampled with it. ``greedy``: temperature 0.

    Returns the N × ``samples`` trajectories (schema ROLLOUTS, plus TOOLS_FIELD if the policy may call more than search;
    in question order) and the timings, kept apart because they differ between equal runs: ``seconds`` in all,
    ``search_seconds`` in calls of tools, and the number of ``policy_tokens``. A trajectory whose search failed is among
    them, with the finish reason ``retriever_error``.

    ``mode``: no_search starts the transcript with an answer; plain_rag searches once for the question itself and then
    answers. Their forced tokens are not policy tokens, and a query by the policy ends the trajectory (search_limit).
    ``ircot`` starts with the same search and then searches for the policy's sentences of reasoning:
    ``r1_searcher.rollout.ircot``.

    Raises ``PipelineError`` for a prompt that leaves no room for a token, and for a tool that cannot be made.
    """
    began = time.perf_counter()
    sampling = Sampling(
        temperature=0.0 if greedy else rollout.temperature,
        top_p=1.0 if greedy else rollout.top_p,
        max_turn_tokens=rollout.max_turn_tokens,
        max_total_tokens=rollout.max_total_tokens,
    )
    toolbox = Toolbox(retriever, engine, rollout, names=None if mode == "search" else (SEARCH,))
    trajectories = _start_trajectories(engine, questions, rollout, samples, seed)
    _force_beginnings(trajectories, toolbox, mode)
    limits = {name: tool.budget.calls for name, tool in toolbox.tools.items()}
    limits[SEARCH] = BASELINE_SEARCHES.get(mode, limits[SEARCH])
    told(0, len(trajectories))
    for first in range(0, len(trajectories), rollout.max_batch):
        batch = trajectories[first : first + rollout.max_batch]
        engine.start(sampling, ircot.IRCOT_STOPS if mode == "ircot" else toolbox.stops)
        for number, trajectory in enumerate(batch):
            if not trajectory.finish_reason:
                engine.add(number, trajectory.token_ids, trajectory.seed)
        booked: TurnHandler = _Batch(engine, batch, toolbox, limits, sampling)
        if mode == "ircot":
            booked = ircot.Batch(engine, batch, limits[SEARCH], sampling)
        ended = functools.partial(_report_progress, told, first, batch, len(trajectories))
        turns.run(engine, toolbox, booked, ended)
    timings = {
        "seconds": time.perf_counter() - began,
        "search_seconds": toolbox.seconds,
        "policy_tokens": float(sum(len(trajectory.logprobs) for trajectory in trajectories)),
    }
    table = pa.Table.from_pylist([trajectory.row() for trajectory in trajectories], schema=schemas.ROLLOUTS)
    if toolbox.further:
        tools = [[dataclasses.asdict(one) for one in toolbox.further]] * table.num_rows
        table = table.append_column(schemas.TOOLS_FIELD, pa.array(tools, schemas.TOOLS_FIELD.type))
    return table, timings


def _report_progress(told: Told, before: int, batch: Sequence[Trajectory], total: int) -> None:
    told(before + sum(bool(trajectory.finish_reason) for trajectory in batch), total)


def _start_trajectories(
    engine: Engine, questions: pa.Table, rollout: params.Rollout, samples: int, seed: int
) -> list[Trajectory]:
    prompt: Prompt = prompt_of(rollout)
    tokenizer = tokenizer_of(engine)
    trajectories = []
    for question in questions.select(["question_id", "question", "answers"]).to_pylist():
        text = prompt.render(question["question"], tokenizer)
        ids = engine.encode(text)
        if len(ids) >= rollout.max_total_tokens:
            raise PipelineError(
                f"the prompt of question {question['question_id']} has {len(ids)} tokens and leaves no room",
                where="rollout.max_total_tokens",
                fix="raise it, or choose a shorter rollout.prompt",
            )
        for sample in range(samples):
            trajectory = Trajectory(question, sample, trajectory_seed(seed, question["question_id"], sample), text, ids)
            trajectory.append(ids, grammar.PROMPT)
            trajectories.append(trajectory)
    return trajectories


def trajectory_seed(seed: int, question_id: str, sample: int) -> int:
    """Return a 63-bit seed for a trajectory, independent of its place in a batch."""
    words = np.random.SeedSequence([seed, sample, *question_id.encode()]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _force_beginnings(trajectories: Sequence[Trajectory], toolbox: Toolbox, mode: Mode) -> None:
    """Force each baseline's beginning of the transcripts; a trajectory without room for it ends at once."""
    if mode == "search":
        return
    queries = list(dict.fromkeys(trajectory.question["question"] for trajectory in trajectories))
    if mode == "no_search":
        queries = []
    calls = [Call(SEARCH, query) for query in queries]
    found = toolbox.find(calls) if calls else []
    answers = {call.request: toolbox.record(call, entry) for call, entry in zip(calls, found, strict=True)}
    for trajectory in trajectories:
        parts = [] if mode == "ircot" else [Segment("forced", grammar.FORCED_ANSWER)]
        if mode != "no_search":
            query = trajectory.question["question"]
            answered = answers[query]
            trajectory.turns.append(answered.record)
            if answered.block is None:
                trajectory.finish_reason = answered.failure
                continue
            searched = Segment("forced", f"{grammar.QUERY} {query}{grammar.END_QUERY}")
            parts = [searched, Segment("document", answered.block), *parts]
        encoded = [toolbox.engine.encode(part.text) for part in parts]
        if len(trajectory.token_ids) + sum(map(len, encoded)) >= toolbox.rollout.max_total_tokens:
            trajectory.finish_reason = grammar.FINISH_LENGTH_LIMIT
            continue
        for part, ids in zip(parts, encoded, strict=True):
            trajectory.append(ids, grammar.DOCUMENT if part.source == "document" else grammar.FORCED)
        trajectory.segments += parts


@dataclass(frozen=True)
class _Batch:
    """A batch in mode search: runs the calls that the policy makes, until it answers."""

    engine: Engine
    batch: Sequence[Trajectory]
    toolbox: Toolbox
    limits: Mapping[str, int]  # calls of each tool per trajectory
    sampling: Sampling

    def take(self, turn: Turn) -> Call | None:
        """Record a turn. Return the call to make; None if the trajectory has ended and was released."""
        trajectory = self.batch[turn.trajectory]
        trajectory.append(turn.token_ids, grammar.POLICY)
        trajectory.logprobs += turn.logprobs
        ended = turn.stop == grammar.FINISH_END_OF_TEXT
        text = self.engine.decode(turn.token_ids[:-1] if ended else turn.token_ids)
        trajectory.segments.append(Segment("policy", text))
        tool = self.toolbox.called(turn.stop)
        if tool is None:
            trajectory.finish_reason = grammar.FINISH_ANSWER if turn.stop == grammar.END_ANSWER else turn.stop
            self.engine.release(turn.trajectory)
            return None
        request = self.toolbox.request(tool, text)
        if not request:
            trajectory.finish_reason = grammar.FINISH_EMPTY_QUERY
        elif trajectory.calls(tool) >= self.limits[tool]:
            trajectory.finish_reason = grammar.FINISH_SEARCH_LIMIT if tool == SEARCH else grammar.FINISH_CALL_LIMIT
        elif isinstance(request, ToolError):
            self.insert(turn.trajectory, self.toolbox.record(Call(tool, ""), request))
            return None
        else:
            return Call(tool, request, trajectory.shown)
        self.engine.release(turn.trajectory)
        return None

    def insert(self, number: int, answered: Answered) -> None:
        """Insert a whole block if a token fits after it; else end the trajectory."""
        trajectory = self.batch[number]
        trajectory.turns.append(answered.record)
        if answered.block is None:
            trajectory.finish_reason = answered.failure
        elif (
            len(trajectory.token_ids) + len(ids := self.engine.encode(answered.block)) >= self.sampling.max_total_tokens
        ):
            trajectory.finish_reason = grammar.FINISH_LENGTH_LIMIT
        else:
            trajectory.append(ids, grammar.DOCUMENT)
            trajectory.segments.append(Segment("document", answered.block))
            trajectory.shown = answered.shown
            self.engine.extend(number, ids)
            return
        self.engine.release(number)
