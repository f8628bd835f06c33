"""Prompts that leave a trajectory no room, found before anything is sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

SHOWN = 3  # ids in a message

Render = Callable[[str], str]  # a question's text → its prompt


def lengths(questions: Sequence[Mapping[str, Any]], render: Render, tokenizer: Any) -> list[int]:
    """Return the tokens of each question's prompt, shape (questions,); rows with ``question``."""
    return [len(tokenizer.encode(render(row["question"]), add_special_tokens=False)) for row in questions]


def too_long(questions: Sequence[Mapping[str, Any]], render: Render, tokenizer: Any, limit: int) -> dict[str, int]:
    """Return the questions whose prompts fill ``limit`` tokens (``rollout.max_total_tokens``): question_id → tokens."""
    found = zip(questions, lengths(questions, render, tokenizer), strict=True)
    return {row["question_id"]: length for row, length in found if length >= limit}


def first_few(names: Sequence[str]) -> str:
    """Return the first of many names, for a message."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
