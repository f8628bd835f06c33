"""Which questions have prompts that leave a trajectory no room, before anything is sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

SHOWN = 3  # ids in a message

Render = Callable[[str], str]  # a question's text → its prompt


def lengths(questions: Sequence[Mapping[str, Any]], render: Render, tokenizer: Any) -> list[int]:
    """Tokens of each question's prompt, shape (questions,); rows with ``question``."""
    return [len(tokenizer.encode(render(row["question"]), add_special_tokens=False)) for row in questions]


def too_long(questions: Sequence[Mapping[str, Any]], render: Render, tokenizer: Any, limit: int) -> dict[str, int]:
    """Of the prompts that fill ``limit`` tokens (``rollout.max_total_tokens``) or more: question_id → tokens."""
    found = zip(questions, lengths(questions, render, tokenizer), strict=True)
    return {row["question_id"]: length for row, length in found if length >= limit}


def few(names: Sequence[str]) -> str:
    """The first names of many, as a message shows them."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
