"""Check before a segment's first iteration what would otherwise end or spoil it in the middle.

Pure functions of tables, parameters and a tokenizer; ``Workbench.check_before`` reads what they need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.params import Rollout, TrainStage, Update
from r1_searcher.points import ESTIMATORS
from r1_searcher.questions.prompt_lengths import first_few, lengths, too_long
from r1_searcher.transcripts.documents import special_tokens
from r1_searcher.update.advantages import compute_advantages


def check_ids(question_ids: Sequence[str], where: str) -> None:
    """Raise ``PipelineError`` if a question id occurs twice: its trajectories would share names and seeds."""
    twice = [name for name, number in Counter(question_ids).items() if number > 1]
    if twice:
        raise PipelineError(
            f"{len(twice):,} question ids occur more than once: {first_few(twice)}",
            where=where,
            fix="make the questions again (`dvc repro questions` refuses such files), or give each row its own id",
        )


def check_groups(stage: TrainStage, name: str, update: Update) -> None:
    """Raise ``PipelineError`` for groups of one sample if the estimator gives them no advantage, as all built-in ones
    do: they compare the samples of a question."""
    if stage.samples_a_question > 1:
        return
    found = compute_advantages([0.0, 1.0], ["one", "other"], [1, 1], update.chosen(ESTIMATORS))
    if not any(values.any() for values in found.values):
        raise PipelineError(
            f"one sample per question trains nothing: {update.estimator} compares the samples of a question with each "
            "other",
            where=f"train.{name}.samples_a_question",
            fix="set it to 2 or more",
        )


def evaluation_would_stop(
    questions: Sequence[Mapping[str, Any]],
    render: Callable[[str], str],
    tokenizer: Any,
    rollout: Rollout,
    *,
    where: str,
) -> list[str]:
    """Return a warning if prompts of ``questions`` (rows as in ``check_prompts``) leave no room: evaluation skips no
    question, so it would stop after all training."""
    long = too_long(questions, render, tokenizer, rollout.max_total_tokens)
    if not long:
        return []
    return [
        f"evaluation will stop at {where}: the prompts of {len(long):,} of {len(questions):,} questions leave no room "
        f"in rollout.max_total_tokens {rollout.max_total_tokens:,}: {first_few(list(long))}; take them out of the file"
    ]


def check_prompts(
    questions: Sequence[Mapping[str, Any]],
    render: Callable[[str], str],
    tokenizer: Any,
    rollout: Rollout,
    *,
    where: str,
) -> list[str]:
    """Tokenize the prompts of ``questions`` (rows with question_id and question) before anything is sampled.

    Returns warnings about prompts that leave less room than one turn. Raises ``PipelineError`` for questions whose
    prompt leaves no room at all, and for questions that contain a special token of the policy's tokenizer, whose id
    would begin or end something in the prompt.
    """
    if not questions:
        return []
    special = [text for text in special_tokens(tokenizer) if text.strip()]
    held = [row["question_id"] for row in questions if any(text in row["question"] for text in special)]
    if held:
        raise PipelineError(
            f"{len(held):,} questions contain a special token of the policy's tokenizer: {first_few(held)}",
            where=where,
            fix="rewrite the token in these questions, or remove them",
        )
    found = lengths(questions, render, tokenizer)
    limit = rollout.max_total_tokens
    long = {row["question_id"]: length for row, length in zip(questions, found, strict=True) if length >= limit}
    if long:
        longest = max(long, key=lambda name: long[name])
        raise PipelineError(
            f"the prompts of {len(long):,} of {len(questions):,} questions leave no room in {limit:,} tokens: "
            f"{first_few(list(long))}; the longest, of {longest}, has {long[longest]:,}",
            where="rollout.max_total_tokens",
            fix="`questions.too_long: leave_out` skips them and keeps stored iterations; a higher "
            "limit or a shorter rollout.prompt samples all iterations again",
        )
    tight = sum(length + rollout.max_turn_tokens > limit for length in found)
    if not tight:
        return []
    return [
        f"the prompts of {tight:,} of {len(questions):,} questions in {where} leave less room than one turn "
        f"(rollout.max_turn_tokens {rollout.max_turn_tokens:,}) in rollout.max_total_tokens {limit:,}"
    ]
