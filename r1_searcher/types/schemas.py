"""Parquet schemas: what the rooms exchange, column by column."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

PASSAGES = pa.schema(
    [
        ("passage_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
    ]
)

# The facts of a synthetic world, one per row. `questions` composes questions from them.
FACTS = pa.schema(
    [
        ("subject", pa.string()),
        ("kind", pa.string()),  # person, film, book, city
        ("relation", pa.string()),
        ("object", pa.string()),
    ]
)

QUESTIONS = pa.schema(
    [
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("dataset", pa.string()),
        ("kind", pa.string()),  # e.g. composition, three_hop, comparison
        ("num_hops", pa.int32()),  # searches that the question needs; null if unknown
        ("supporting_titles", pa.list_(pa.string())),  # empty if unknown
        ("difficulty", pa.string()),  # easy, medium, difficult; null if unknown
        ("num_rollouts", pa.int32()),  # the rollouts behind `difficulty`; null if unknown
        ("num_passes", pa.int32()),  # how many of them were right
    ]
)

TURN = pa.struct(
    [
        ("tool", pa.string()),  # null in files from before there were several tools: search
        ("query", pa.string()),  # the request, whatever the tool
        ("passage_ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("error", pa.string()),  # null if the call succeeded
    ]
)

SEGMENT = pa.struct([("source", pa.string()), ("text", pa.string())])  # policy, document, forced

ROLLOUTS = pa.schema(
    [
        ("trajectory_id", pa.string()),  # question_id + "#" + sample
        ("question_id", pa.string()),
        ("sample", pa.int32()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("prompt", pa.string()),
        ("token_ids", pa.list_(pa.int32())),  # (T,) prompt, then the transcript, as sampled
        ("token_source", pa.list_(pa.int8())),  # (T,) grammar.PROMPT, POLICY, DOCUMENT or FORCED
        ("policy_logprobs", pa.list_(pa.float32())),  # (P,) of each policy token at sampling
        ("turns", pa.list_(TURN)),
        ("segments", pa.list_(SEGMENT)),  # the transcript by provenance; joined they are `text`
        ("text", pa.string()),
        ("answer", pa.string()),  # null if no answer was given
        ("finish_reason", pa.string()),  # grammar.FINISH_REASONS
        ("seed", pa.int64()),
    ]
)

# A column of rollouts and evaluations only if the policy could call a tool beside search: those tools and their tags.
TOOLS_FIELD = pa.field(
    "tools", pa.list_(pa.struct([("name", pa.string()), ("begin", pa.string()), ("end", pa.string())]))
)


def rollouts_schema(names: Iterable[str]) -> pa.Schema:
    """Return ``ROLLOUTS``, plus ``TOOLS_FIELD`` if it is among the columns ``names``."""
    return ROLLOUTS.append(TOOLS_FIELD) if TOOLS_FIELD.name in names else ROLLOUTS


REWARDS = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("question_id", pa.string()),
        ("total", pa.float64()),
        ("retrieval", pa.float64()),  # components; 0 if the reward set lacks them
        ("format", pa.float64()),
        ("answer", pa.float64()),
        ("violations", pa.list_(pa.string())),  # names of the rules that the transcript breaks
        ("format_right", pa.bool_()),  # the `paper` set's rule, whichever set gives the reward
        ("em", pa.float64()),
        ("f1", pa.float64()),
        ("cover_em", pa.float64()),
        ("num_searches", pa.int32()),
        ("num_policy_tokens", pa.int32()),
        ("num_tokens", pa.int32()),
        ("counted", pa.bool_()),  # false: left out of training (retriever error)
    ]
)

ADVANTAGES = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("advantages", pa.list_(pa.float32())),  # (P,) of each policy token
        ("returns", pa.list_(pa.float32())),  # (P,)
        ("ref_logprobs", pa.list_(pa.float32())),  # (P,) empty if the KL coefficient is 0
    ]
)

# One row per question: the prediction and every metric.
EVALUATION = pa.schema(
    [
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("prediction", pa.string()),  # null if no answer was given
        ("em", pa.float64()),
        ("f1", pa.float64()),
        ("cover_em", pa.float64()),
        ("cover_em_contiguous", pa.float64()),
        ("format_right", pa.bool_()),
        ("num_searches", pa.int32()),
        ("num_tokens", pa.int32()),
        ("finish_reason", pa.string()),
        ("text", pa.string()),
    ]
)
