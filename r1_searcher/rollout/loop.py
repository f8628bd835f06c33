"""Rollout: questions in, trajectories out (paper section 3.1).

The loop is the environment of the policy: it renders the prompt, cuts the query out of a turn that
asks for a search, retrieves, neutralises and inserts the passages, and notes of every token who
wrote it. Which engine generates and which retriever finds is not known here.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.progress import Told, nobody
from r1_searcher.rollout import ircot, turns
from r1_searcher.rollout.blocks import Blocks
from r1_searcher.rollout.booking import Found
from r1_searcher.rollout.prompt import Prompt, load_prompt
from r1_searcher.rollout.trajectory import Trajectory
from r1_searcher.shown import printable
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.documents import fold_space
from r1_searcher.transcripts.grammar import Mode, Segment
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Engine, Retriever, RetrieverError, Sampling, Turn, search_each

BASELINE_SEARCHES = {"no_search": 0, "plain_rag": 1}  # all made before the policy writes: it may not search


class Searcher:
    """Runs queries and makes document blocks of what is found; one record a search for the Parquet file."""

    def __init__(self, retriever: Retriever, engine: Engine, rollout: params.Rollout) -> None:
        self.retriever, self.engine, self.rollout = retriever, engine, rollout
        self._blocks = Blocks(engine, rollout)
        self.seconds = 0.0

    def find(self, queries: Sequence[str]) -> list[Found]:
        """For each query its passages, or why it has none. May be called from another thread, one call at a time."""
        began = time.perf_counter()
        found = search_each(self.retriever, queries, self.rollout.k)
        self.seconds += time.perf_counter() - began
        return found

    def record(self, query: str, found: Found) -> tuple[dict[str, Any], str | None]:
        """A query's ``turns`` record and its document block; None where the search failed."""
        if isinstance(found, RetrieverError):
            error = printable(str(found)) or "it did not say why"
            return {"query": query, "passage_ids": [], "scores": [], "error": error}, None
        told = [passage for passage in found[: self.rollout.k] if fold_space(passage.text)]  # a server may send more
        if found and not told:
            return self.record(query, RetrieverError(f"{len(found)} passages without a word"))
        found = told
        record = {
            "query": query,
            "passage_ids": [printable(passage.passage_id) for passage in found],
            "scores": [passage.score for passage in found],
            "error": None,
        }
        return record, self._blocks.render(found)


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
    """Generate ``samples`` trajectories a question; ``told`` how many have ended, of how many.

    Returns the trajectories (schema ROLLOUTS, in the questions' order) and the timings, which are
    kept apart because they differ between two equal runs: seconds, search_seconds, policy_tokens.

    ``mode`` no_search makes the transcript begin with an answer; plain_rag searches once with the
    question itself and then answers. The forced tokens are no policy tokens, and a query that the policy
    writes all the same ends the trajectory (search_limit). ``ircot`` begins with the same search and then
    searches for sentences of the policy's reasoning: ``r1_searcher.rollout.ircot``.
    """
    began = time.perf_counter()
    sampling = Sampling(
        temperature=0.0 if greedy else rollout.temperature,
        top_p=1.0 if greedy else rollout.top_p,
        max_turn_tokens=rollout.max_turn_tokens,
        max_total_tokens=rollout.max_total_tokens,
    )
    searcher = Searcher(retriever, engine, rollout)
    trajectories = _begin(engine, questions, rollout, samples, seed)
    _force(trajectories, searcher, mode)
    max_searches = BASELINE_SEARCHES.get(mode, rollout.max_searches)
    told(0, len(trajectories))
    for first in range(0, len(trajectories), rollout.max_batch):
        batch = trajectories[first : first + rollout.max_batch]
        engine.start(sampling, ircot.STOPS if mode == "ircot" else grammar.STOPS)
        for number, trajectory in enumerate(batch):
            if not trajectory.finish_reason:
                engine.add(number, trajectory.token_ids, trajectory.seed)
        booked = (ircot.Batch if mode == "ircot" else _Batch)(engine, batch, max_searches, sampling)
        ended = functools.partial(_tell, told, first, batch, len(trajectories))
        turns.run(engine, searcher, booked, ended)
    timings = {
        "seconds": time.perf_counter() - began,
        "search_seconds": searcher.seconds,
        "policy_tokens": float(sum(len(trajectory.logprobs) for trajectory in trajectories)),
    }
    return pa.Table.from_pylist([trajectory.row() for trajectory in trajectories], schema=schemas.ROLLOUTS), timings


def _tell(told: Told, before: int, batch: Sequence[Trajectory], total: int) -> None:
    told(before + sum(bool(trajectory.finish_reason) for trajectory in batch), total)


def _begin(engine: Engine, questions: pa.Table, rollout: params.Rollout, samples: int, seed: int) -> list[Trajectory]:
    prompt: Prompt = load_prompt(rollout.prompt)
    tokenizer = getattr(engine, "tokenizer", None)
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
    """A 63-bit seed from what names a trajectory, independent of its place in a batch."""
    words = np.random.SeedSequence([seed, sample, *question_id.encode()]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _force(trajectories: Sequence[Trajectory], searcher: Searcher, mode: Mode) -> None:
    """Make transcripts begin as a baseline wants; one for which that leaves no room ends before it begins."""
    if mode == "search":
        return
    queries = list(dict.fromkeys(trajectory.question["question"] for trajectory in trajectories))
    if mode == "no_search":
        queries = []
    found = searcher.find(queries) if queries else []
    blocks = {query: searcher.record(query, entry) for query, entry in zip(queries, found, strict=True)}
    for trajectory in trajectories:
        parts = [] if mode == "ircot" else [Segment("forced", grammar.FORCED_ANSWER)]
        if mode != "no_search":
            query = trajectory.question["question"]
            record, block = blocks[query]
            trajectory.turns.append(record)
            if block is None:
                trajectory.finish_reason = grammar.FINISH_RETRIEVER_ERROR
                continue
            searched = Segment("forced", f"{grammar.QUERY} {query}{grammar.END_QUERY}")
            parts = [searched, Segment("document", block), *parts]
        encoded = [searcher.engine.encode(part.text) for part in parts]
        if len(trajectory.token_ids) + sum(map(len, encoded)) >= searcher.rollout.max_total_tokens:
            trajectory.finish_reason = grammar.FINISH_LENGTH_LIMIT
            continue
        for part, ids in zip(parts, encoded, strict=True):
            trajectory.append(ids, grammar.DOCUMENT if part.source == "document" else grammar.FORCED)
        trajectory.segments += parts


@dataclass(frozen=True)
class _Batch:
    """A batch in the mode search: what the policy asks for is searched, until it answers."""

    engine: Engine
    batch: Sequence[Trajectory]
    max_searches: int
    sampling: Sampling

    def take(self, turn: Turn) -> str | None:
        """Book a turn. Returns the query to run; None where the trajectory has ended, and was released."""
        trajectory = self.batch[turn.trajectory]
        trajectory.append(turn.token_ids, grammar.POLICY)
        trajectory.logprobs += turn.logprobs
        ended = turn.stop == grammar.FINISH_END_OF_TEXT
        text = self.engine.decode(turn.token_ids[:-1] if ended else turn.token_ids)
        trajectory.segments.append(Segment("policy", text))
        query = grammar.extract_query(text)
        if turn.stop != grammar.END_QUERY:
            trajectory.finish_reason = grammar.FINISH_ANSWER if turn.stop == grammar.END_ANSWER else turn.stop
        elif not query:
            trajectory.finish_reason = grammar.FINISH_EMPTY_QUERY
        elif len(trajectory.turns) >= self.max_searches:
            trajectory.finish_reason = grammar.FINISH_SEARCH_LIMIT
        else:
            return query
        self.engine.release(turn.trajectory)
        return None

    def insert(self, number: int, record: dict[str, Any], block: str | None) -> None:
        """Insert a block of documents whole, with room for a token after it, or end the trajectory."""
        trajectory = self.batch[number]
        trajectory.turns.append(record)
        if block is None:
            trajectory.finish_reason = grammar.FINISH_RETRIEVER_ERROR
        elif len(trajectory.token_ids) + len(ids := self.engine.encode(block)) >= self.sampling.max_total_tokens:
            trajectory.finish_reason = grammar.FINISH_LENGTH_LIMIT
        else:
            trajectory.append(ids, grammar.DOCUMENT)
            trajectory.segments.append(Segment("document", block))
            self.engine.extend(number, ids)
            return
        self.engine.release(number)
