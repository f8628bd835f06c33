"""A trajectory while it grows, and its row of rollouts.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Segment, Transcript
from r1_searcher.types.protocols import Passage


@dataclass
class Trajectory:
    """One trajectory while it grows; ``row`` gives its row of rollouts.parquet."""

    question: dict[str, Any]
    sample: int
    seed: int
    prompt: str
    prompt_ids: list[int]
    token_ids: list[int] = field(default_factory=list)  # (T,)
    token_source: list[int] = field(default_factory=list)  # (T,)
    logprobs: list[float] = field(default_factory=list)  # (P,)
    turns: list[dict[str, Any]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    shown: tuple[Passage, ...] = ()  # passages of the last block
    finish_reason: str = ""

    def append(self, token_ids: Sequence[int], source: int) -> None:
        """Append tokens from one source."""
        self.token_ids += token_ids
        self.token_source += [source] * len(token_ids)

    def calls(self, tool: str) -> int:
        """Count the calls of a tool."""
        return sum(turn["tool"] == tool for turn in self.turns)

    def row(self) -> dict[str, Any]:
        """Return this trajectory as a row of ``schemas.ROLLOUTS``."""
        transcript = Transcript.of(self.segments)
        question_id = self.question["question_id"]
        return {
            "trajectory_id": f"{question_id}#{self.sample}",
            "question_id": question_id,
            "sample": self.sample,
            "question": self.question["question"],
            "answers": self.question["answers"],
            "prompt": self.prompt,
            "token_ids": self.token_ids,
            "token_source": self.token_source,
            "policy_logprobs": self.logprobs,
            "turns": self.turns,
            "segments": [{"source": part.source, "text": part.text} for part in self.segments],
            "text": transcript.text,
            "answer": grammar.extract_answer(transcript.policy_text),
            "finish_reason": self.finish_reason,
            "seed": self.seed,
        }
