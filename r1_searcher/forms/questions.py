"""Questions in the forms of verl and TRL. The ids and our further columns stay, so that they are read back as they
were."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa

from r1_searcher.rollout.prompt import Prompt
from r1_searcher.types.schemas import QUESTIONS

Form = Literal["hub", "verl", "trl"]
FORMS: tuple[Form, ...] = ("hub", "verl", "trl")

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_FURTHER = ("question_id", "kind", "num_hops", "supporting_titles", "difficulty", "num_rollouts", "num_passes")


def messages_of(prompt: Prompt, question: str) -> list[dict[str, str]]:
    """Return the prompt as a chat: a base model's template is all of the user's message."""
    if prompt.is_chat:
        return prompt.messages(question)
    return [{"role": "user", "content": prompt.render(question)}]


def to_verl(questions: pa.Table, prompt: Prompt, split: str) -> pa.Table:
    """Return questions (schema QUESTIONS) as verl reads them: data_source, prompt, ability, reward_model and
    extra_info; N rows, in order."""
    rows: list[dict[str, Any]] = [
        {
            "data_source": row["dataset"],
            "prompt": messages_of(prompt, row["question"]),
            "ability": "search",
            "reward_model": {"style": "rule", "ground_truth": {"target": row["answers"]}},
            "extra_info": {"split": split, "index": index, "question": row["question"]},
            **{name: row[name] for name in _FURTHER},
        }
        for index, row in enumerate(questions.to_pylist())
    ]
    truth = pa.struct([("target", pa.list_(pa.string()))])
    about = pa.struct([("split", pa.string()), ("index", pa.int64()), ("question", pa.string())])
    fields = [
        ("data_source", pa.string()),
        ("prompt", _MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", truth)])),
        ("extra_info", about),
        *((name, QUESTIONS.field(name).type) for name in _FURTHER),
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def to_trl(questions: pa.Table, prompt: Prompt, *, conversational: bool) -> pa.Table:
    """Return questions (schema QUESTIONS) with TRL's column ``prompt``: text, or messages if ``conversational``; N
    rows, in order. Their other columns reach TRL's reward functions."""
    texts = questions["question"].to_pylist()
    if conversational or prompt.is_chat:
        column = pa.array([messages_of(prompt, text) for text in texts], _MESSAGES)
    else:
        column = pa.array([prompt.render(text) for text in texts], pa.string())
    return questions.add_column(0, "prompt", column)
